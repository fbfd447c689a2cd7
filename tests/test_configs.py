"""Every YAML in configs/ is complete, names its command, and runs."""

import json
from pathlib import Path

import pytest
import yaml

from lit_fed.cli import LitFedCLI, main
from tests.federation.toy import save_toy_model, toy_rows
from tests.methods.toy_methods import save_toy_lm

CONFIGS = Path(__file__).parents[1] / "configs"
PATHS = sorted(CONFIGS.rglob("*.yaml"))
NAMES = [str(path.relative_to(CONFIGS)) for path in PATHS]


def sst2_files(folder: Path) -> None:
    """Files of SST-2's three formats with sentences of our own."""
    (folder / "data" / "sst2").mkdir(parents=True)
    for seed, split in enumerate(("train", "dev")):
        rows = toy_rows(60, seed)
        lines = [f"{t}\t{y}" for t, y in zip(rows["text"], rows["label"], strict=True)]
        (folder / "data" / "sst2" / f"{split}.tsv").write_text(
            "\n".join(["sentence\tlabel", *lines])
        )
    rows = toy_rows(30, 2)
    lines = [f"{y} {t}" for t, y in zip(rows["text"], rows["label"], strict=True)]
    (folder / "data" / "sst2" / "test.tsv").write_text("\n".join(lines))


def instructions_and_a_processor(folder: Path) -> list[str]:
    """Rows and a tiny model for what is meant for several GPUs, and how one processor takes them."""
    (folder / "data" / "instructions").mkdir(parents=True)
    for seed, split in enumerate(("train", "test")):
        rows = toy_rows(60, seed)
        pairs = zip(rows["text"], rows["label"], strict=True)
        lines = [json.dumps({"instruction": t, "response": ("bad", "good")[y]}) for t, y in pairs]
        (folder / "data" / "instructions" / f"{split}.jsonl").write_text("\n".join(lines))
    model = save_toy_lm(folder / "model")
    here = ["--trainer.accelerator=cpu", "--trainer.devices=1"]
    return [*here, f"--model.backbone.model={model}", "--data.max_length=32"]


def test_there_are_configurations() -> None:
    assert "lora_fedavg.yaml" in NAMES
    assert "gpu/llama_7b_fsdp.yaml" in NAMES


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_names_its_command_and_is_instantiated(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# lit-fed fit --config configs/{path.relative_to(CONFIGS)}"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config["trainer"]["name"] == path.stem


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
@pytest.mark.timeout(900)  # the embedded models are pre-trained once, at their first use
def test_runs_at_its_smallest_size(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    smaller = ["--trainer.fast_dev_run=true", "--trainer.clients_per_round=2"]
    if "sst2" in path.stem:
        sst2_files(tmp_path)
        model = save_toy_model(tmp_path / "model")
        smaller.append(f"--model.backbone.model={model}")
    if path.parent.name == "gpu":
        smaller += instructions_and_a_processor(tmp_path)
    main(["fit", "--config", str(path), *smaller, "--trainer.enable_progress_bar=false"])


def test_a_printed_configuration_lists_every_setting(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    with pytest.raises(SystemExit):
        LitFedCLI(["fit", "--config", str(CONFIGS / "lora_fedavg.yaml"), "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert {"max_rounds", "min_clients", "seed", "sampler", "execution"} <= printed[
        "trainer"
    ].keys()
    assert {"partitioner", "encoding", "num_clients", "bucketing"} <= printed["data"].keys()
