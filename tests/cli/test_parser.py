"""What is wrong with a setting is one line: the setting, what is expected, what came, the nearest name."""

from pathlib import Path

import pytest

from lit_fed.cli import main

CASES = {
    "abbreviation": (
        ["--trainer.max_round=3"],
        "`trainer.max_round` is no setting; did you mean 'trainer.max_rounds'?",
    ),
    "abbreviation of a class's": (
        ["--model.warmup_step=3"],
        "`model.warmup_step` is no setting of lit_fed.FedAvg; did you mean 'model.warmup_steps'?",
    ),
    "nothing near": (["--trainer.zzz=3"], "`trainer.zzz` is no setting"),
    "of the data": (
        ["--data.num_client=3"],
        "`data.num_client` is no setting; did you mean 'data.num_clients'?",
    ),
    "of the command": (["--ckpt_pth=last"], "`ckpt_pth` is no setting; did you mean 'ckpt_path'?"),
    "of a class": (
        ["--model.backbone.num_label=3"],
        "`model.backbone.num_label` is no setting of lit_fed.backbones.SequenceClassifier; "
        "did you mean 'model.backbone.num_labels'?",
    ),
    "of a class in a class": (
        ["--model.backbone.peft.lora_alfa=3"],
        "`model.backbone.peft.lora_alfa` is no setting of peft.LoraConfig; "
        "did you mean 'model.backbone.peft.lora_alpha'?",
    ),
    "of an optimizer": (
        ["--model.optimizer.lrr=1"],
        "`model.optimizer.lrr` is no setting of torch.optim.AdamW; did you mean 'model.optimizer.lr'?",
    ),
    "of a class that is not chosen": (
        ["--data.validation.path=x.csv"],
        "`data.validation` is expected to be the class path of a Source before its `path` is given",
    ),
    "an integer": (
        ["--trainer.max_rounds=abc"],
        "`trainer.max_rounds` is expected to be an integer, but got 'abc'",
    ),
    "or null": (
        ["--trainer.local_steps=a"],
        "`trainer.local_steps` is expected to be an integer or null, but got 'a'",
    ),
    "a number": (
        ["--model.optimizer.lr=x"],
        "`model.optimizer.lr` is expected to be a number or a class path, but got 'x'",
    ),
    "one of some words": (
        ["--trainer.precision=bf16"],
        "`trainer.precision` is expected to be one of '32-true', '16-mixed', 'bf16-mixed', 'bf16-true', '16-true', "
        "'64-true', but got 'bf16'; did you mean 'bf16-true'?",
    ),
    "a method": (
        ["--model=FedAv"],
        "`model` is expected to be the class path of a FederatedModule, but got 'FedAv'; did you mean 'FedAvg'?",
    ),
    "a method by its path": (
        ["--model=lit_fed.FedAvgg"],
        "but got 'lit_fed.FedAvgg'; did you mean 'FedAvg'?",
    ),
    "a method of no module": (
        ["--model=absent.Mine"],
        "but got 'absent.Mine', which needs the module 'absent' that is not installed",
    ),
    "a class of another kind": (
        ["--data.partitioner=lit_fed.data.CSVSource"],
        "`data.partitioner` is expected to be the class path of a Partitioner, but got 'lit_fed.data.CSVSource'",
    ),
    "a class in a class": (
        ["--model.aggregation=FedAvgMM"],
        "`model.aggregation` is expected to be the class path of an Aggregation, but got 'FedAvgMM'; "
        "did you mean 'FedAvgM'?",
    ),
    "a word": (["extra"], "'extra' is expected to be a setting, such as --trainer.max_rounds 3"),
    "no YAML": (["--config=broken.yaml"], "mapping values are not allowed in this context"),
    "in a YAML": (
        ["--config=trainer.yaml"],
        "`trainer.max_round` is no setting; did you mean 'trainer.max_rounds'?",
    ),
    "a group of a YAML": (
        ["--config=group.yaml"],
        "`trainr.max_rounds` is no setting; did you mean 'trainer.max_rounds'?",
    ),
    "a class's in a YAML": (
        ["--config=peft.yaml"],
        "`model.backbone.peft.rr` is no setting of peft.LoraConfig; did you mean 'model.backbone.peft.r'?",
    ),
    "what a class requires": (
        ["--data.train=lit_fed.data.CSVSource"],
        "`data.train.path` of lit_fed.data.CSVSource is expected to be given, since it has no default",
    ),
    "a truth value of YAML": (
        ["--config=attack.yaml"],
        "to be a text or an integer, but got 'False': YAML takes yes, no, on, off, true and false for truth values",
    ),
    "a setting of a class that is not named": (
        ["--model.backbone.peft", "null", "--model.backbone.peft.r", "4"],
        "`model.backbone.peft.r` is no setting of peft.PeftConfig, but of peft.LoraConfig and peft.",
    ),
    "a list of numbers where texts are expected": (
        ["--trainer.attachments+=lit_fed.attacks.SignFlip", "--trainer.attachments.clients", "[1]"],
        "`trainer.attachments.clients` is expected to be a list of texts, in quotes where they are numbers or words of "
        'YAML, as in ["1", "no"], but got [1]',
    ),
}
FILES = {
    "attack.yaml": "trainer: {attachments: [{class_path: lit_fed.attacks.TriggerPoisoning, init_args: {target: no, "
    "trigger: {class_path: lit_fed.attacks.triggers.WordTrigger}, rate: 0.1}}]}\n",
    "broken.yaml": "trainer:\n max_rounds: 3\n   x: 3\n",
    "trainer.yaml": "trainer: {max_round: 3}\n",
    "group.yaml": "trainr: {max_rounds: 3}\n",
    "peft.yaml": "model: {init_args: {backbone: {init_args: {peft: {init_args: {rr: 3}}}}}}\n",
}


@pytest.mark.parametrize("case", CASES)
def test_an_error_is_one_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    wrong, said = CASES[case]
    with pytest.raises(SystemExit) as exit_:
        main(["fit", "--config", "lora_fedavg", *wrong])
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("lit-fed: error: ")
    assert said in line
    assert captured.out == ""


@pytest.mark.parametrize(
    ("module", "source", "said"),
    [
        (
            "names",
            "\nx = undefined\n",
            "NameError: name 'undefined' is not defined (names.py, line 2)",
        ),
        ("imports", "from torch import nosuch\n", "ImportError: cannot import name 'nosuch' from"),
        ("syntax", "def x(:\n", "SyntaxError: invalid syntax (syntax.py, line 1)"),
    ],
)
@pytest.mark.parametrize("nested", [False, True], ids=["on the command line", "in a YAML"])
def test_a_module_that_fails_is_named_with_what_failed(
    module: str,
    source: str,
    said: str,
    nested: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path(f"{module}.py").write_text(source)
    Path("own.yaml").write_text(
        f"model: {{class_path: {module}.Mine, init_args: {{warmup_steps: 3}}}}\n"
    )
    own = ["--config=own.yaml"] if nested else [f"--model={module}.Mine"]
    with pytest.raises(SystemExit) as exit_:
        main(["fit", "--config", "lora_fedavg", *own])
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    start = f"`model` is expected to be a class path, but got '{module}.Mine', whose module fails"
    assert line.startswith(f"lit-fed: error: {start}")
    assert said in line


def test_a_value_that_is_no_class_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("training.py").write_text("open('ran', 'w').close()\n")
    with pytest.raises(SystemExit):
        main(["fit", "--config", "lora_fedavg", "--trainer.max_rounds=training.py"])
    assert "expected to be an integer, but got 'training.py'" in capsys.readouterr().err
    assert not Path("ran").exists()


def test_a_packaged_configuration_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--config=lora_fedavg", "--config", "data/tatoeba", "-c", "backbones/minilm"]
    with pytest.raises(SystemExit) as exit_:
        main([*words, "--print_config"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    assert "lit_fed.data.TranslationPairs" in printed
    assert "all-MiniLM-L6-v2" in printed


def test_a_file_comes_before_a_packaged_configuration_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("msi").write_text("model: lit_fed.FedAvg\n")
    with pytest.raises(SystemExit):
        main(["fit", "--config", "msi", "--print_config"])
    assert "class_path: lit_fed.FedAvg" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["null", "None"])
def test_null_reaches_a_class_in_a_class(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["fit", "--config", "lora_fedavg", "--model.backbone.peft", word, "--print_config"])
    assert exit_.value.code == 0
    assert "peft: null" in capsys.readouterr().out


def test_a_word_of_lightnings_is_written_as_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    timer = ["--trainer.callbacks=Timer", "--trainer.callbacks.duration=00:01:00:00"]
    with pytest.raises(SystemExit) as exit_:
        main(["fit", *timer, "--print_config"])
    assert exit_.value.code == 0
    assert "interval: step" in capsys.readouterr().out
