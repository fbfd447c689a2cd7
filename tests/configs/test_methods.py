"""Every YAML of a method is complete, names its command, and runs at its smallest size."""

from pathlib import Path

import pytest
import yaml

from lit_fed.cli import LitFedCLI, main
from tests.configs.data_files import (
    instructions_and_a_processor,
    sst2_files,
)
from tests.configs.listed import (
    ATTACKS,
    BACKBONES,
    BLACK_BOXES,
    CLAIMS,
    COME_OVER,
    COMPRESSIONS,
    CONFIGS,
    DEFENSES,
    EVALUATIONS,
    FEW_REFERENCES,
    NAMES,
    OVERLAY_NAMES,
    PATHS,
    PRIVACY,
    QUICK,
    REWRITINGS,
    STUDIES,
)
from tests.federation.toy import save_toy_model
from tests.slow import slow_but


def test_there_are_configurations() -> None:
    assert "lora_fedavg.yaml" in NAMES
    methods = ["adversarial_distillation", "distillation", "dp_distillation"]
    assert [f"{name}.yaml" for name in methods] == [n for n in NAMES if "distillation" in n]
    instructions = ["alpaca", "chats", "dolly_clients", "embedded_instructions"]
    names = [*instructions, "embedded_references", "embedded_tasks", "questions"]
    names += ["sst2", "sst2_trec", "tatoeba", "trec"]
    assert [f"data/{name}.yaml" for name in names] == OVERLAY_NAMES
    assert [path.stem for path in EVALUATIONS] == [
        "answers",
        "classification",
        "defense_table",
        "embedded_answers",
        "fairness",
        "prototypes",
        "rewriting_samples",
        "short_answers",
    ]
    assert [path.stem for path in BACKBONES] == ["minilm", "smollm2"]
    assert [path.stem for path in REWRITINGS] == [
        "embedded",
        "english",
        "one_pass",
        "unfiltered",
    ]
    updates = ["boosted_update", "neurotoxin", "random_update", "sign_flip"]
    triggers = ["", "_clean_label", "_concentrated", "_syntactic", "_word"]
    rows = ["label_flipping", "phrase", "teacher_corruption", *(f"trigger{t}" for t in triggers)]
    assert [path.stem for path in ATTACKS] == sorted([*updates, *rows])
    assert [path.stem for path in DEFENSES] == [
        "activation_clustering",
        "cube",
        "inputs",
        "onion",
        "perplexity",
        "prototype_filter",
        "references_only",
    ]
    assert [path.stem for path in COMPRESSIONS] == ["eight_bit", "half_precision", "top_k"]
    assert [path.stem for path in PRIVACY] == ["dp_sgd"]
    # it wants a server, see the test of it
    assert [path.stem for path in BLACK_BOXES] == ["endpoint", "llamas_and_endpoint"]
    zou = ["figure4", "figure5", "table1", "table2"]
    wang = ["aggregators", "dolly", "dolly_rewritten", "paradox", "table"]
    bergman = ["sst2", "sst2_taught", "trec", "trec_taught"]
    data, weak = ["embedded", "sst2", "trec"], ["embedded", "sst2"]
    attacks = ["adaptive", "after", "rates", "triggers"]
    rules, robust = ["pooled", "rules"], ["one", "three"]
    selectors = ["embedded", "length"]
    models, texts = ["sst2"], ["questions"]
    others = [*models, *robust, *selectors, *texts]
    studies = [*data, *rules, *attacks, *bergman, *others, *wang, *weak, *zou]
    assert [path.stem for path in STUDIES] == studies
    assert "gpu/llama_7b_fsdp.yaml" in NAMES
    # a new kind of them has a test as well
    assert set(CONFIGS.rglob("*.yaml")) == {*PATHS, *COME_OVER, *STUDIES, *CLAIMS}


@pytest.mark.parametrize("path", PATHS, ids=NAMES)
def test_names_its_command(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# lit-fed fit --config configs/{path.relative_to(CONFIGS)}"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config["trainer"]["name"] == path.stem


@pytest.mark.parametrize(
    "path",
    # one a kind of method and model; `make test-all` runs every one
    slow_but(*(path for path in PATHS if path.stem in QUICK), of=PATHS),
    ids=NAMES,
)
def test_runs_at_its_smallest_size(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    # of ten clients three may be wrong, for which it takes nine
    share = 1.0 if "krum" in path.stem else 0.2
    smaller = ["--trainer.fast_dev_run=true", f"--trainer.clients_per_round={share}"]
    if "sst2" in path.stem:
        sst2_files(tmp_path)
        model = save_toy_model(tmp_path / "model")
        smaller.append(f"--model.backbone.model={model}")
    if "fedsd" in path.stem:
        smaller.append("--data.train.init_args.size=60")
    if "distillation" in path.stem:
        smaller += ["--data.public_size=60", "--model.teacher.init_args.epochs=1"]
    if path.stem == "prototype_defense":
        smaller += FEW_REFERENCES
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
