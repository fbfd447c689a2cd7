"""Other overlays come over a method: what they name is taken, and a run goes."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_fed.cli import LitFedCLI
from lit_fed.methods.rewriting.rewriting import HINT
from tests.configs.data_files import (
    instruction_files,
    sst2_trec_files,
)
from tests.configs.listed import (
    ANSWERED,
    COMPRESSIONS,
    CONFIGS,
    CONSENSUS,
    FEW_REFERENCES,
    METHOD,
    OTHERWISE,
    PRIVACY,
    TABLE_1,
    read_with,
)
from tests.slow import slow_but


def holds(printed: Any, told: Any) -> bool:
    """Whether settings have been taken over."""
    if not isinstance(told, dict):
        return bool(printed == told)
    for name, one in told.items():
        found = printed.get(name.removesuffix("+"))
        if not holds(found[-1] if found and name.endswith("+") else found, one):
            return False
    return True


FIRST_OF_EACH = {path.parent: path for path in reversed([*CONSENSUS, *OTHERWISE])}.values()


@pytest.mark.parametrize(
    "path",
    slow_but(*FIRST_OF_EACH, of=[*CONSENSUS, *OTHERWISE]),
    ids=[str(path.relative_to(CONFIGS)) for path in [*CONSENSUS, *OTHERWISE]],
)
def test_a_method_goes_otherwise(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    first = path.read_text(encoding="utf-8").splitlines()[0]
    method = Path(first.split(" --config ")[1]).stem
    configs = [f"--config={one}" for one in read_with(path, method)]
    with pytest.raises(SystemExit):
        LitFedCLI(["fit", *configs, "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert holds(printed, yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("method", slow_but("fedsd", of=["fedsd", "fedsdr"]))
def test_clients_rewrite_other_instructions(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    instruction_files(tmp_path)
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    configs = read_with(CONFIGS / "rewriting" / "english.yaml", method)
    short = "--model.rewriting.init_args.max_new_tokens=4"
    read = [f"--config={path}" for path in configs]
    rewriting = LitFedCLI(["fit", *read, *smaller, short]).model.rewriting
    assert (rewriting.hint, rewriting.hint_by, rewriting.filter.judge) == (HINT, None, None)


def test_an_aggregator_rewrites_as_fedsd_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lit-fed"])

    def printed(*configs: Path) -> dict[str, Any]:
        with pytest.raises(SystemExit):
            LitFedCLI(["fit", *(f"--config={path}" for path in configs), "--print_config"])
        return yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["rewriting"]

    own = printed(CONFIGS / "fedsd.yaml")
    assert printed(*read_with(CONFIGS / "rewriting" / "embedded.yaml", "fedadam")) == own
    unfiltered = printed(*read_with(CONFIGS / "rewriting" / "unfiltered.yaml", "fedsdr"))
    assert unfiltered["init_args"].pop("filter") == {
        "class_path": "lit_fed.methods.rewriting.NoFilter"
    }
    own["init_args"].pop("filter")
    assert unfiltered == own


def test_a_large_decoder_takes_the_embedded_ones_place(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    files = read_with(CONFIGS / "backbones" / "smollm2.yaml", "fedsdr")
    with pytest.raises(SystemExit):
        LitFedCLI(["fit", *(f"--config={path}" for path in files), "--print_config"])
    model = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    assert model["backbone"]["init_args"]["model"] == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert model["backbone"]["init_args"]["peft"]["init_args"]["target_modules"] == [
        "q_proj",
        "v_proj",
    ]


@pytest.mark.parametrize("method", slow_but("ddg_msi", "fed_prompt", of=TABLE_1))
def test_a_backbone_comes_over_a_method_and_its_data(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = CONFIGS / "backbones" / "minilm.yaml"
    given = [CONFIGS / f"{method}.yaml", CONFIGS / "data" / "sst2_trec.yaml", path]
    first = path.read_text(encoding="utf-8").splitlines()[0]
    files = [f"--config {file.relative_to(CONFIGS.parent)}" for file in [METHOD, *given[1:]]]
    assert first == " ".join(["# lit-fed fit", *files])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    smaller += sst2_trec_files(tmp_path)
    if method == "fed_prompt":
        smaller.append("--model.backbone.peft.num_virtual_tokens=2")
    cli = LitFedCLI(["fit", *(f"--config={file}" for file in given), *smaller])
    trained = cli.model.backbone.trainable()
    assert any(name.endswith("bert.pooler.dense.weight") for name in trained)
    assert cli.trainer.fabric.strategy.precision.precision == "bf16-mixed"


@pytest.mark.parametrize(
    "path", slow_but(COMPRESSIONS[-1], of=COMPRESSIONS), ids=[path.stem for path in COMPRESSIONS]
)
def test_a_compression_comes_over_a_method(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    files = f"--config configs/{METHOD.name} --config configs/compression/{path.name}"
    assert first == f"# lit-fed fit {files}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    cli = LitFedCLI(["fit", "--config", str(METHOD), "--config", str(path), *smaller])
    assert [type(one).__module__ for one in cli.trainer.attachments] == [
        f"lit_fed.compression.{path.stem}"
    ]
    assert 0 < cli.trainer.federation.ledger.up < 0.6 * cli.trainer.federation.ledger.down


def test_privacy_comes_over_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = PRIVACY
    first = path.read_text(encoding="utf-8").splitlines()[0]
    files = f"--config configs/{METHOD.name} --config configs/privacy/{path.name}"
    assert first == f"# lit-fed fit {files}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    cli = LitFedCLI(["fit", "--config", str(METHOD), "--config", str(path), *smaller])
    # one step of as many as the rounds of the whole run
    assert 0 < cli.trainer.federation.history[-1]["privacy/epsilon/max"] <= 8


@pytest.mark.parametrize(
    ("name", "method", "logged"),
    [
        ("fairness", "lora_fedavg", "fairness/accuracy/worst"),
        ("classification", "lora_fedavg", "classification/recall/sense"),
        ("prototypes", "prototype_defense", "drift/threshold"),
        pytest.param(
            *("rewriting_samples", "fedsdr", "clients/rewriting/replaced/mean"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_evaluation_comes_beside_the_callbacks_that_are_there(
    name: str, method: str, logged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    configs = read_with(CONFIGS / "evaluations" / f"{name}.yaml", method)
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    if name == "prototypes":
        smaller += FEW_REFERENCES
    if name == "rewriting_samples":
        smaller += [
            "--data.train.init_args.size=60",
            "--model.rewriting.init_args.max_new_tokens=4",
        ]
    timer = "--trainer.callbacks+=lightning.pytorch.callbacks.Timer"
    cli = LitFedCLI(["fit", *(f"--config={path}" for path in configs), timer, *smaller])
    assert 0 <= cli.trainer.federation.history[-1][logged] <= 1
    kinds = {type(one).__name__ for one in cli.trainer.callbacks}
    own = {
        "fairness": {"FairnessEvaluation"},
        "classification": {"ClassificationEvaluation"},
        "prototypes": {"PrototypeAudit", "DriftAlarm"},
        "rewriting_samples": {"RewritingSamples", "GenerationEvaluation"},
    }
    assert {"Timer", *own[name]} <= kinds


@pytest.mark.parametrize("name", slow_but(ANSWERED[1], of=ANSWERED))
def test_an_evaluation_comes_over_a_method_of_language_models(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = CONFIGS / "evaluations" / f"{name}.yaml"
    method = CONFIGS / "fedsdr.yaml"
    first = path.read_text(encoding="utf-8").splitlines()[0]
    files = f"--config configs/{method.name} --config configs/evaluations/{path.name}"
    assert first == f"# lit-fed fit {files}"
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    smaller += ["--data.train.init_args.size=60", "--data.eval_batch_size=8"]
    smaller += ["--model.rewriting.init_args.max_new_tokens=4", "--trainer.clients_per_round=0.2"]
    smaller += ["--model.private_steps=1", "--model.shared_steps=1"]
    cli = LitFedCLI(["fit", "--config", str(method), "--config", str(path), *smaller])
    (row,) = cli.trainer.federation.history
    for name in ("rouge_l", "length_ratio", "number_precision", "entity_recall"):
        assert f"test/{name}" in row
    if path.stem == "embedded_answers":
        assert 0 <= row["clients/test/right/mean"] <= 100
        assert 0 <= row["groups/test/right/mean"] <= 100
    assert 0 < row["similarity/gradient_cosine"] < 1


def test_short_answers_are_judged_word_for_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    instruction_files(tmp_path)
    path = CONFIGS / "evaluations" / "short_answers.yaml"
    configs = [f"--config={one}" for one in read_with(path, "lora_fedavg_instructions")]
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    cli = LitFedCLI(["fit", *configs, *smaller])
    (row,) = cli.trainer.federation.history
    assert 0 <= row["test/exact_match"] <= row["test/rouge_l"] <= 100
