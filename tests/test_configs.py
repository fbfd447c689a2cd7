"""Every YAML in configs/ is complete, names its command, and runs."""

import json
from itertools import chain, product
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import auto_parser
from transformers import BertModel

from lit_fed.cli import LitFedCLI, main
from lit_fed.configurations import find_configuration
from lit_fed.defenses import RowDefense
from lit_fed.methods.rewriting.rewriting import HINT
from lit_fed.study import study
from lit_fed.study.claims import claims
from tests.federation.toy import save_toy_model, toy_rows
from tests.methods.toy_methods import save_toy_lm
from tests.slow import slow_but

CONFIGS = Path(__file__).parents[1] / "configs"
OVERLAYS = sorted((CONFIGS / "data").glob("*.yaml"))
REWRITINGS = sorted((CONFIGS / "rewriting").glob("*.yaml"))
ATTACKS = sorted((CONFIGS / "attacks").glob("*.yaml"))
DEFENSES = sorted((CONFIGS / "defenses").glob("*.yaml"))
INPUT_DEFENSES = CONFIGS / "defenses" / "inputs.yaml"
PERPLEXITY = CONFIGS / "defenses" / "perplexity.yaml"
ROW_DEFENSES = [path for path in DEFENSES if path not in (INPUT_DEFENSES, PERPLEXITY)]
BACKBONES = sorted((CONFIGS / "backbones").glob("*.yaml"))
COMPRESSIONS = sorted((CONFIGS / "compression").glob("*.yaml"))
PRIVACY = sorted((CONFIGS / "privacy").glob("*.yaml"))
EVALUATIONS = sorted((CONFIGS / "evaluations").glob("*.yaml"))
FEW_REFERENCES = [
    "--data.public.init_args.size=60",
    "--model.encoder.init_args.epochs=1",
    "--model.num_prototypes=12",
]
ANSWERED = ("answers", "embedded_answers")
BLACK_BOXES = sorted((CONFIGS / "black_boxes").glob("*.yaml"))
CONSENSUS = sorted((CONFIGS / "consensus").glob("*.yaml"))
CLIENTS = sorted((CONFIGS / "clients").glob("*.yaml"))
BACKDOORS = sorted((CONFIGS / "backdoors").glob("*.yaml"))
OTHERWISE = sorted(
    path
    for kind in ("optimizers", "prototypes", "ranks", "selectors", "teachers", "weak")
    for path in (CONFIGS / kind).glob("*.yaml")
)
CLAIMS = sorted((CONFIGS / "studies").rglob("claims.yaml"))
STUDIES = sorted(set((CONFIGS / "studies").rglob("*.yaml")) - set(CLAIMS))
PATHS = sorted(
    set(CONFIGS.rglob("*.yaml"))
    - {
        *OVERLAYS,
        *REWRITINGS,
        *ATTACKS,
        *DEFENSES,
        *BACKBONES,
        *COMPRESSIONS,
        *PRIVACY,
        *EVALUATIONS,
        *BLACK_BOXES,
        *CONSENSUS,
        *CLIENTS,
        *BACKDOORS,
        *OTHERWISE,
        *STUDIES,
        *CLAIMS,
    }
)
NAMES = [str(path.relative_to(CONFIGS)) for path in PATHS]
QUICK = ("lora_fedavg", "ddg_msi", "semantic_consensus", "prototype_defense")
OVERLAY_NAMES = [str(path.relative_to(CONFIGS)) for path in OVERLAYS]
CLASSIFIERS = [p for p in sorted(CONFIGS.glob("*.yaml")) if "CausalLM" not in p.read_text("utf-8")]
METHOD = CONFIGS / "lora_fedavg.yaml"
GENERATING = CONFIGS / "lora_fedavg_instructions.yaml"
INSTRUCTIONS = ("alpaca", "chats", "dolly_clients")
TABLE_1 = ["fed_pet", "lora_fedavg", "fed_prompt", "fed_adapters", "ddg_msi"]


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


def trec_files(folder: Path) -> None:
    """Files in TREC's format with sentences of our own, of which the test lacks a label."""
    (folder / "data" / "trec").mkdir(parents=True)
    for seed, split in enumerate(("train", "test")):
        texts = toy_rows(60, seed)["text"]
        lines = [f'{i % (6 - seed)},"{text} ?"' for i, text in enumerate(texts)]
        (folder / "data" / "trec" / f"{split}.csv").write_text("\n".join(lines))


def sst2_trec_files(folder: Path) -> list[str]:
    """Files of both and a tiny model, and how so few rows are taken."""
    sst2_files(folder)
    trec_files(folder)
    model = save_toy_model(folder / "model")
    BertModel.from_pretrained(model).save_pretrained(model)  # without its head of two labels
    public = ["--data.public_size=10", "--data.validation_fraction=0.2"]
    return [f"--model.backbone.model={model}", *public]


def tatoeba_files(folder: Path) -> None:
    """A file in Tatoeba's format: 12,000 pairs, a third traditional, by 31 contributors."""
    (folder / "data" / "tatoeba").mkdir(parents=True)
    lines = []
    for i in range(12000):
        english = " ".join([f"w{i}", *["word"] * (1 + i % 9)])
        chinese = f"{'这那這'[i // 9 % 3]}{i}。"
        attribution = f"CC-BY 2.0 (France) Attribution: tatoeba.org #{i} (CK) & #{i} (u{i % 31})"
        lines.append(f"{english}\t{chinese}\t{attribution}")
    (folder / "data" / "tatoeba" / "cmn.txt").write_text("\n".join(lines), encoding="utf-8")


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


def instruction_files(folder: Path) -> None:
    """Files of instructions and chats in the three forms, with sentences of our own."""
    for name in ("dolly", "alpaca", "chats"):
        (folder / "data" / name).mkdir(parents=True)
    asked = ["What is six plus three?", "Who has the red boat?", "Say it again."] * 8
    dolly = [{"instruction": q, "context": "", "response": "It is nine."} for q in asked]
    for name in ("local_training_0", "local_training_1", "global_test"):
        (folder / "data" / "dolly" / f"{name}.json").write_text(json.dumps(dolly))
    alpaca = [{"instruction": q, "input": "Ann has it.", "output": "Ann."} for q in asked]
    (folder / "data" / "alpaca" / "alpaca_data.json").write_text(json.dumps(alpaca))
    turns = [("user", "Who?"), ("assistant", "Ann."), ("user", "Why?"), ("assistant", "She ran.")]
    messages = [{"role": role, "content": content} for role, content in turns]
    chats = [{"author": "abc"[i % 3], "messages": messages[: 2 + i % 3]} for i in range(24)]
    for name in ("train", "test"):
        lines = "\n".join(json.dumps(chat) for chat in chats)
        (folder / "data" / "chats" / f"{name}.jsonl").write_text(lines)


def test_there_are_configurations() -> None:
    assert "lora_fedavg.yaml" in NAMES
    methods = ["adversarial_distillation", "distillation", "dp_distillation"]
    assert [f"{name}.yaml" for name in methods] == [n for n in NAMES if "distillation" in n]
    instructions = ["alpaca", "chats", "dolly_clients", "embedded_instructions"]
    names = [*instructions, "embedded_tasks", "sst2", "sst2_trec", "tatoeba", "trec"]
    assert [f"data/{name}.yaml" for name in names] == OVERLAY_NAMES
    assert [path.stem for path in EVALUATIONS] == [*ANSWERED, "fairness", "prototypes"]
    assert [path.stem for path in BACKBONES] == ["minilm", "smollm2"]
    assert [path.stem for path in REWRITINGS] == ["embedded", "english", "unfiltered"]
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
        "references_only",
    ]
    assert [path.stem for path in COMPRESSIONS] == ["eight_bit", "half_precision", "top_k"]
    assert [path.stem for path in PRIVACY] == ["dp_sgd"]
    # it wants a server, see the test of it
    assert [path.stem for path in BLACK_BOXES] == ["endpoint", "llamas_and_endpoint"]
    zou = ["figure4", "figure5", "table1", "table2"]
    wang = ["aggregators", "dolly", "dolly_rewritten", "paradox", "table"]
    bergman = ["sst2", "sst2_taught", "trec", "trec_taught"]
    data, weak = ["sst2", "trec"], ["sst2"]
    rules, robust = ["pooled", "rules"], ["one", "three"]
    selectors = ["embedded", "length"]
    studies = [*data, *rules, *bergman, *robust, *selectors, *wang, *weak, *zou]
    assert [path.stem for path in STUDIES] == studies
    assert "gpu/llama_7b_fsdp.yaml" in NAMES


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


@pytest.mark.parametrize(
    "path",
    slow_but(*(path for path in OVERLAYS if path.stem in ("alpaca", "sst2_trec")), of=OVERLAYS),
    ids=OVERLAY_NAMES,
)
def test_an_overlay_changes_the_data_of_a_method(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    method = GENERATING if path.stem in INSTRUCTIONS else METHOD
    assert first == (
        f"# lit-fed fit --config configs/{method.name} --config configs/data/{path.name}"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    if path.stem == "tatoeba":
        tatoeba_files(tmp_path)
    elif path.stem == "sst2_trec":
        smaller += sst2_trec_files(tmp_path)
    elif path.stem in ("sst2", "trec"):
        {"sst2": sst2_files, "trec": trec_files}[path.stem](tmp_path)
        smaller.append("--data.public_size=8")
    elif path.stem in INSTRUCTIONS:
        instruction_files(tmp_path)
    overlay = yaml.safe_load(path.read_text(encoding="utf-8"))
    cli = LitFedCLI(["fit", "--config", str(method), "--config", str(path), *smaller])
    assert type(cli.model).__name__ == "FedAvg"
    data = cli.datamodule
    assert data.tasks == overlay["data"].get("tasks")
    if data.tasks is None:
        return
    tables = {**data.tests, "public": data.public, "validation": data.validation}
    assert all(set(rows["task"]) == set(data.tasks) for rows in tables.values() if rows is not None)
    if path.stem == "sst2_trec":
        labels = {"sst2": {0, 1}, "trec": {2, 3, 4, 5, 6}}
        rows = data.tests["test"]
        assert {
            task: {y for y, t in zip(rows["label"], rows["task"], strict=True) if t == task}
            for task in data.tasks
        } == labels


@pytest.mark.parametrize("path", CLIENTS, ids=[path.stem for path in CLIENTS])
def test_clients_with_few_rows_come_over_data(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    sst2_files(tmp_path)
    method = "centralized" if path.stem == "pooled" else METHOD.stem
    smaller = ["--data.public_size=8", "--data.partitioner.init_args.max_rows=2"]
    configs = [f"--config={one}" for one in read_with(path, method)]
    cli = LitFedCLI(["fit", *configs, *smaller, "--trainer.fast_dev_run=true"])
    told = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
    assert len(cli.datamodule.clients) == told["num_clients"]
    assert max(len(client.rows) for client in cli.datamodule.clients) <= 2


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


@pytest.mark.slow
@pytest.mark.parametrize("path", BACKDOORS, ids=[path.stem for path in BACKDOORS])
def test_a_backdoor_is_planted_in_real_data(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    data, _, kind = path.stem.partition("_")
    {"sst2": sst2_files, "trec": trec_files}[data](tmp_path)
    smaller = ["--data.public_size=12", "--trainer.fast_dev_run=true"]
    if kind == "data":
        smaller.append("--trainer.attachments.init_args.rate=0.5")
    configs = [f"--config={one}" for one in read_with(path, METHOD.stem)]
    if kind == "teacher":
        with pytest.raises(SystemExit):
            LitFedCLI(["fit", *configs, "--print_config"])
        return
    cli = LitFedCLI(["fit", *configs, *smaller])
    attacks = [type(one).__name__ for one in cli.trainer.attachments]
    assert attacks == (["TriggerPoisoning"] if kind == "data" else [])
    assert 0 <= cli.trainer.federation.history[-1]["backdoor/asr"] <= 100


@pytest.mark.parametrize("path", OVERLAYS, ids=OVERLAY_NAMES)
def test_data_with_a_public_set_to_carve_off_takes_back_a_methods_own(path: Path) -> None:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
    if data.get("public_size"):
        assert data.get("public", "the method's") is None


def read_with(path: Path, method: str) -> list[Path]:
    """The configurations that the first line of an overlay names, with another method's in place of the first."""
    first = path.read_text(encoding="utf-8").splitlines()[0]
    files = [CONFIGS.parent / file for file in first.split(" --config ")[1:]]
    assert first == " ".join(
        ["# lit-fed fit", *(f"--config {file.relative_to(CONFIGS.parent)}" for file in files)]
    )
    assert files[-1] == path
    return [CONFIGS / f"{method}.yaml", *files[1:]]


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


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=path.stem,
            marks=() if path.stem in ("sign_flip", "trigger") else pytest.mark.slow,
        )
        for path in ATTACKS
    ],
)
def test_an_attack_comes_over_a_method(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = {"phrase": GENERATING, "teacher_corruption": CONFIGS / "ddg.yaml"}.get(
        path.stem, METHOD
    )
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == (
        f"# lit-fed fit --config configs/{method.name} --config configs/attacks/{path.name}"
    )
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    cli = LitFedCLI(["fit", "--config", str(method), "--config", str(path), *smaller])
    *_, attack = cli.trainer.attachments
    if path.stem in ("boosted_update", "random_update", "sign_flip"):
        assert len(attack.clients) == 3
        assert cli.trainer.max_update_norm_ratio is None
        return
    (row,) = cli.trainer.federation.history
    assert path.stem == "label_flipping" or 0 <= row["backdoor/asr"] <= 100
    told = [one.summarised() for one in cli.trainer.attachments]
    rows = sum(len(client.rows) for client in cli.datamodule.clients)
    if path.stem != "label_flipping":
        assert told[0]["poisoned_rows"] == round(0.05 * rows)
    if path.stem == "neurotoxin":
        assert attack.clients == cli.trainer.attachments[0].clients
    assert ("Backdoor, in percent" in capsys.readouterr().out) == (path.stem == "trigger")


def test_attacks_are_combined(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    overlays = [CONFIGS / "attacks" / f"{name}.yaml" for name in ("label_flipping", "trigger_word")]
    files = [f"--config={path}" for path in (METHOD, *overlays)]
    with pytest.raises(SystemExit):
        LitFedCLI(["fit", *files, "--print_config"])
    trainer = yaml.safe_load(capsys.readouterr().out)["trainer"]
    kinds = [one["class_path"].rpartition(".")[2] for one in trainer["attachments"]]
    assert kinds == ["LabelFlipping", "TriggerPoisoning"]
    assert [one["class_path"] for one in trainer["callbacks"]] == [
        "lit_fed.callbacks.BackdoorEvaluation"
    ]


@pytest.mark.slow
def test_defences_of_inputs_are_judged_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    configs = [f"--config={one}" for one in read_with(INPUT_DEFENSES, METHOD.stem)]
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    last = "--trainer.callbacks.init_args.defenses.init_args.language_model.init_args"
    cli = LitFedCLI(["fit", *configs, *smaller, f"{last}.steps=1"])
    (row,) = cli.trainer.federation.history
    for name in ("asr", "STRIP/asr", "ONION/asr", "STRIP/false_rejections"):
        assert 0 <= row[f"backdoor/{name}"] <= 100


@pytest.mark.slow
@pytest.mark.parametrize("path", ROW_DEFENSES, ids=[path.stem for path in ROW_DEFENSES])
def test_a_defence_comes_over_a_method_and_an_attack(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == (
        f"# lit-fed fit --config configs/{METHOD.name} --config configs/defenses/{path.name}"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    smaller.append("--trainer.clients_per_round=3")
    last = "--trainer.attachments.init_args"
    if path.stem == "onion":
        smaller.append(f"{last}.onion.init_args.language_model.init_args.steps=1")
    elif path.stem != "references_only":
        smaller.append(f"{last}.representation.init_args.steps=1")
    attack = CONFIGS / "attacks" / "sign_flip.yaml"
    files = [f"--config={file}" for file in (METHOD, attack, path)]
    cli = LitFedCLI(["fit", *files, *smaller])
    assert type(cli.trainer.attachments[0]).__name__ == "SignFlip"
    (defence,) = cli.trainer.attachments[1:]
    if isinstance(defence, RowDefense):
        row = cli.trainer.federation.history[-1]
        assert 0 < row[f"defense/{type(defence).__name__}/kept"] <= 1


@pytest.mark.slow
def test_a_defence_of_answers_comes_over_a_method_that_generates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    configs = read_with(PERPLEXITY, GENERATING.stem)
    assert configs[1] == CONFIGS / "attacks" / "phrase.yaml"
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    smaller.append("--trainer.clients_per_round=3")
    cli = LitFedCLI(["fit", *(f"--config={path}" for path in configs), *smaller])
    row = cli.trainer.federation.history[-1]
    assert 0.8 < row["defense/PerplexityFilter/kept"] < 0.99
    assert 0 <= row["backdoor/asr"] <= 100


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
        ("prototypes", "prototype_defense", "drift/threshold"),
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
    timer = "--trainer.callbacks+=lightning.pytorch.callbacks.Timer"
    cli = LitFedCLI(["fit", *(f"--config={path}" for path in configs), timer, *smaller])
    assert 0 <= cli.trainer.federation.history[-1][logged] <= 1
    kinds = {type(one).__name__ for one in cli.trainer.callbacks}
    own = {"fairness": {"FairnessEvaluation"}, "prototypes": {"PrototypeAudit", "DriftAlarm"}}
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


@pytest.mark.slow
def test_clients_alone_are_compared_with_a_federation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    study = yaml.safe_load((CONFIGS / "studies" / "wang2026" / "table.yaml").read_text("utf-8"))
    assert study["configs"][0] == "local_only"
    files = [find_configuration(name) for name in (study["configs"][0], *study["overlays"])]
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    smaller += ["--data.train.init_args.size=60", "--data.eval_batch_size=24"]
    cli = LitFedCLI(["fit", *(f"--config={file}" for file in files), *smaller])
    (row,) = cli.trainer.federation.history
    assert 0 <= row["clients/test/right/mean"] <= 100
    # no model is all clients', of which their gradients could be
    assert {name for name in row if name.startswith(("test/", "similarity/"))} == {
        "similarity/jensen_shannon",
        "similarity/tfidf_cosine",
    }


def test_the_embedded_instructions_are_whole_over_any_method(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # the one of the methods that takes fewer rows
    files = [CONFIGS / "fedsdr.yaml", CONFIGS / "data" / "embedded_instructions.yaml"]
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    with pytest.raises(SystemExit):
        LitFedCLI(["fit", *(f"--config={file}" for file in files), "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)["data"]
    for split in ("train", "validation", "test"):
        assert printed[split]["init_args"]["size"] is None


@pytest.mark.parametrize(
    "method",
    slow_but(
        *(path for path in CLASSIFIERS if path.stem in (*QUICK, "flora", "scaffold")),
        of=CLASSIFIERS,
    ),
    ids=[path.stem for path in CLASSIFIERS],
)
def test_an_overlay_keeps_what_it_does_not_name(
    method: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # the one of the overlays that changes the model, and names no class of it
    path = CONFIGS / "data" / "sst2_trec.yaml"
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    with pytest.raises(SystemExit):
        LitFedCLI(["fit", "--config", str(method), "--config", str(path), "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    alone = yaml.safe_load(method.read_text(encoding="utf-8"))
    overlay = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert printed["model"]["class_path"] == alone["model"]["class_path"]
    assert printed["trainer"]["local_steps"] == overlay["trainer"]["local_steps"]
    assert printed["trainer"]["name"] == alone["trainer"]["name"]
    changed = overlay["model"]["init_args"]["backbone"]["init_args"]
    kept = alone["model"]["init_args"]["backbone"]
    backbone = printed["model"]["init_args"]["backbone"]
    assert backbone["class_path"] == kept["class_path"]
    assert {name: backbone["init_args"][name] for name in changed} == changed
    assert backbone["init_args"]["peft"]["class_path"] == kept["init_args"]["peft"]["class_path"]


def arms_of(settings: Any) -> dict[str, list[str]]:
    """A study's arms by their names, each its YAML and those of its own."""
    given = settings.configs
    arms = given if isinstance(given, dict) else {str(one): [one] for one in given}
    return {name: [str(one) for one in own] for name, own in arms.items()}


@pytest.mark.parametrize("path", STUDIES, ids=[path.stem for path in STUDIES])
def test_a_study_names_its_command_and_what_there_is(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    command = f"# lit-fed-study --config {path.relative_to(CONFIGS.parent)}"
    assert text.splitlines()[0] == command
    settings = auto_parser(study, as_positional=False).parse_args([f"--config={path}"])
    assert settings.name == path.stem
    own = chain.from_iterable([*arms_of(settings).values(), *(settings.variants or {}).values()])
    for file in (*own, *settings.overlays):
        assert find_configuration(str(file)).is_file()
    if path.parent.name == "zou2024":
        reported = {"SRS", "TTA", "RSI", "GuS", "PE"}
        assert {metric.removeprefix("index/") for metric in settings.metrics} == reported


TUNED = [path for path in STUDIES if path.parent.name != "zou2024"]


@pytest.mark.slow
@pytest.mark.parametrize("path", TUNED, ids=[path.stem for path in TUNED])
def test_every_arm_takes_its_settings(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    settings = auto_parser(study, as_positional=False).parse_args([f"--config={path}"])
    tune, every = settings.tune, []
    for own in (settings.variants or {"": []}).values():
        every.append([find_configuration(str(one)) for one in (*settings.overlays, *own)])
    arms = arms_of(settings)
    assert tune is None or set(tune.own) <= set(arms)
    compared: dict[str, str] = {}
    for (arm, (config, *last)), (number, overlays) in product(arms.items(), enumerate(every)):
        tried = [[]] if tune is None else tune.own.get(arm, tune.candidates)
        for place, candidate in enumerate(tried[::2]):
            own = [find_configuration(str(one)) for one in last]
            words = [f"--config={one}" for one in (find_configuration(config), *overlays, *own)]
            with pytest.raises(SystemExit) as ended:
                LitFedCLI(["fit", *words, *settings.set, *candidate, "--print_config"])
            assert ended.value.code == 0
            printed = yaml.safe_load(capsys.readouterr().out)
            for setting in (*settings.set, *candidate):
                name, _, value = setting.removeprefix("--").partition("=")
                found = printed
                for key in name.split("."):
                    found = found[-1] if isinstance(found, list) else found
                    found = found[key] if key in found else found["init_args"][key]
                told = yaml.safe_load(value)
                assert found in (told, {"class_path": told})
            # a setting of all arms must not undo what an arm is
            printed["trainer"].pop("name")
            alone = json.dumps([number, place, printed], sort_keys=True)
            assert compared.setdefault(alone, arm) == arm


@pytest.mark.parametrize("path", CLAIMS, ids=[path.parent.name for path in CLAIMS])
def test_claims_compare_arms_of_the_papers_studies(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# lit-fed-study claims --config {path.relative_to(CONFIGS.parent)}\n")
    settings = auto_parser(claims, as_positional=False).parse_args([f"--config={path}"])
    studies = [yaml.safe_load(one.read_text("utf-8")) for one in path.parent.glob("*.yaml")]
    arms = set()
    for one in (one for one in studies if "configs" in one):
        below = [""]
        if "sweep" in one:
            ((setting, values),) = one["sweep"].items()
            below += [f"/{setting.rpartition('.')[2]}={value}" for value in values]
        if "variants" in one:
            below = [f"/variant={name}" for name in one["variants"]]
        arms |= {arm + own for arm in one["configs"] for own in below}
    compared = {arm for claim in settings.claims for one in claim.arms for arm in one.weights}
    compared |= {one.arm for claim in settings.claims for one in claim.curves}
    assert compared <= arms
    assert {arm for table in settings.tables for arm in table} <= arms
    assert {one["root"] for one in studies if "root" in one} == set(
        map(str, settings.roots.values())
    )


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
