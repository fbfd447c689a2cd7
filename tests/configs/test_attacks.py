"""Attacks, backdoors in real data and defences come over a method and beside each other."""

from pathlib import Path

import pytest
import yaml

from lit_fed.cli import LitFedCLI
from lit_fed.defenses import RowDefense
from tests.configs.data_files import (
    sst2_files,
    trec_files,
)
from tests.configs.listed import (
    ANSWER_FILTERS,
    ATTACKS,
    BACKDOORS,
    CONFIGS,
    GENERATING,
    INPUT_DEFENSES,
    METHOD,
    ROW_DEFENSES,
    read_with,
)


@pytest.mark.slow
@pytest.mark.parametrize("path", BACKDOORS, ids=[path.stem for path in BACKDOORS])
def test_a_backdoor_is_planted_in_data(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    data, _, kind = path.stem.partition("_")
    if data != "embedded":
        {"sst2": sst2_files, "trec": trec_files}[data](tmp_path)
    size = 60 if data == "embedded" else 12
    smaller = [f"--data.public_size={size}", "--trainer.fast_dev_run=true"]
    poisons = not kind.startswith("never")
    if poisons and kind != "one_client":  # who has not as many rows
        smaller.append("--trainer.attachments.init_args.rate=0.5")
    configs = [f"--config={one}" for one in read_with(path, METHOD.stem)]
    if kind == "teacher":
        with pytest.raises(SystemExit):
            LitFedCLI(["fit", *configs, "--print_config"])
        return
    cli = LitFedCLI(["fit", *configs, *smaller])
    attacks = [type(one).__name__ for one in cli.trainer.attachments]
    assert attacks == (["TriggerPoisoning"] if poisons else [])
    assert 0 <= cli.trainer.federation.history[-1]["backdoor/asr"] <= 100


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


@pytest.mark.parametrize("kind", ["attacks", "compression"])
def test_what_acts_on_uploads_comes_beside_what_is_attached(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    for path in sorted((CONFIGS / kind).glob("*.yaml")):
        first = CONFIGS / "attacks" / "trigger_word.yaml"
        files = [f"--config={one}" for one in (METHOD, first, path)]
        with pytest.raises(SystemExit):
            LitFedCLI(["fit", *files, "--print_config"])
        attached = yaml.safe_load(capsys.readouterr().out)["trainer"]["attachments"]
        own = yaml.safe_load(path.read_text(encoding="utf-8"))["trainer"]["attachments+"]
        kinds = [one["class_path"] for one in attached]
        assert kinds == [
            "lit_fed.attacks.TriggerPoisoning",
            *(one["class_path"] for one in own),
        ], path.name


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
@pytest.mark.parametrize("path", ANSWER_FILTERS, ids=lambda path: path.stem)
def test_a_defence_of_answers_comes_over_a_method_that_generates(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["lit-fed"])
    configs = read_with(path, GENERATING.stem)
    assert configs[1] == CONFIGS / "attacks" / "phrase.yaml"
    smaller = ["--trainer.fast_dev_run=true", "--trainer.enable_progress_bar=false"]
    smaller.append("--trainer.clients_per_round=3")
    cli = LitFedCLI(["fit", *(f"--config={path}" for path in configs), *smaller])
    defence, row = cli.trainer.attachments[-1], cli.trainer.federation.history[-1]
    assert 0.8 < row[f"defense/{type(defence).__name__}/kept"] < 0.99
    assert 0 <= row["backdoor/asr"] <= 100
