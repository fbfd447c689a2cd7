import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from lit_fed.cli import LitFedCLI, main
from tests.federation.toy import save_toy_config, toy_rows


@pytest.fixture(scope="module")
def arguments(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return ["--config", str(save_toy_config(tmp_path_factory.mktemp("cli")))]


@pytest.fixture(autouse=True)
def command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["lit-fed"])
    monkeypatch.chdir(tmp_path)


def test_fit_test_predict_and_resume_from_the_saved_config(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    main(["fit", *arguments, f"--trainer.default_root_dir={run}"])
    shown = capsys.readouterr().out
    for said in (
        "test",
        "bytes",
        "TensorBoard",
        str(run / "adapter"),
        str(run / "checkpoints" / "round=0002"),
    ):
        assert said in shown
    summary = json.loads((run / "summary.json").read_text())
    assert summary["seed"] == 3
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["trainer"]["default_root_dir"] == str(run)

    main(["test", "--config", str(run / "config.yaml"), "--ckpt_path=last"])
    assert f"{summary['metrics']['test/accuracy']:.4f}" in capsys.readouterr().out
    main(["predict", "--config", str(run / "config.yaml"), "--ckpt_path=last"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = toy_rows(80, 1)
    assert [(line["set"], line["row"]) for line in lines] == [("test", i) for i in range(80)]
    assert [line["text"] for line in lines] == rows["text"][:]
    assert [line["expected"] for line in lines] == [str(label) for label in rows["label"]]
    correct = sum(line["label"] == line["expected"] for line in lines)
    assert correct / 80 == pytest.approx(summary["metrics"]["test/accuracy"])

    main(
        ["fit", "--config", str(run / "config.yaml"), "--ckpt_path=last", "--trainer.max_rounds=3"]
    )
    assert json.loads((run / "summary.json").read_text())["rounds"] == 3


def test_last_is_of_the_run_whose_configuration_is_given(
    arguments: list[str], tmp_path: Path
) -> None:
    for seed in (0, 1):
        words = [f"--data.seed={seed}", "--trainer.max_rounds=1", "--trainer.name=mine"]
        main(["fit", *arguments, *words])
    first, second = (tmp_path / "runs" / "mine" / f"version_{i}" for i in (0, 1))
    resumed = ["--ckpt_path=last", "--trainer.max_rounds=2"]
    main(["fit", "--config", "runs/mine/version_0/config.yaml", *resumed])
    assert [p.name for p in sorted((first / "checkpoints").glob("round=*"))][-1] == "round=0002"
    assert not (second / "checkpoints" / "round=0002").exists()
    expected = json.loads((first / "summary.json").read_text())["metrics"]["test/loss"]
    # a file of another name beside a folder of checkpoints is no run's
    mine = second / "mine.yaml"
    mine.write_text((second / "config.yaml").read_text())
    cli = LitFedCLI(["test", "--config", str(mine), "--ckpt_path=last"])
    assert cli.trainer.default_root_dir is None
    cli = LitFedCLI(["test", "--config", str(first / "config.yaml"), "--ckpt_path=last"])
    assert cli.trainer.callback_metrics["test/loss"].item() == pytest.approx(expected)


def test_last_is_of_the_run_also_where_its_folder_has_another_name_by_now(
    arguments: list[str], tmp_path: Path
) -> None:
    main(["fit", *arguments, "--trainer.max_rounds=1", "--trainer.default_root_dir=first"])
    moved = (tmp_path / "first").rename(tmp_path / "moved")
    config = str(moved / "config.yaml")
    main(["fit", "--config", config, "--ckpt_path=last", "--trainer.max_rounds=2"])
    assert (moved / "checkpoints" / "round=0002").is_dir()
    assert not (tmp_path / "first").exists()
    # what the command itself says comes before
    elsewhere = ["--ckpt_path=last", "--trainer.default_root_dir=other"]
    with pytest.warns(UserWarning, match="other has no checkpoint yet"):
        main(["fit", "--config", config, *elsewhere, "--trainer.max_rounds=1"])
    assert (tmp_path / "other" / "checkpoints" / "round=0001").is_dir()


def test_settings_that_a_checkpoint_refuses_are_not_the_runs(
    arguments: list[str], tmp_path: Path
) -> None:
    """And leave to go on with changes is for once."""
    run = tmp_path / "run"
    config = ["--config", str(run / "config.yaml"), "--ckpt_path=last"]
    main(["fit", *arguments, "--trainer.max_rounds=1", f"--trainer.default_root_dir={run}"])
    saved = (run / "config.yaml").read_text()
    changed = ["--trainer.max_rounds=2", "--data.batch_size=7"]
    with pytest.raises(SystemExit, match=r"`data\.batch_size`"):
        main(["fit", *config, *changed])
    assert (run / "config.yaml").read_text() == saved
    main(["fit", *config, *changed, "--trainer.resume_with_changes=true"])
    now = yaml.safe_load((run / "config.yaml").read_text())
    assert now["data"]["batch_size"] == 7
    assert now["trainer"]["max_rounds"] == 2
    with pytest.raises(SystemExit, match=r"`data\.batch_size`"):
        main(["fit", *config, "--trainer.max_rounds=3", "--data.batch_size=6"])


def test_a_runs_own_configuration_means_its_last_checkpoint(
    arguments: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    main(["fit", *arguments, "--trainer.max_rounds=1", f"--trainer.default_root_dir={run}"])
    summary = json.loads((run / "summary.json").read_text())
    for command in ("test", "validate"):
        cli = LitFedCLI([command, "--config", str(run / "config.yaml")])
        split = "val" if command == "validate" else command
        found = cli.trainer.callback_metrics[f"{split}/loss"].item()
        assert found == pytest.approx(summary["metrics"][f"{split}/loss"])


@pytest.mark.parametrize(
    ("logger", "package"),
    [("WandbLogger", "wandb"), ("MLFlowLogger", "mlflow"), ("CometLogger", "comet")],
)
@pytest.mark.parametrize("listed", [False, True])
def test_a_logger_that_is_not_installed_names_its_package(
    arguments: list[str], logger: str, package: str, listed: bool
) -> None:
    if find_spec(package.replace("comet", "comet_ml")) is not None:
        pytest.skip("installed here")
    path = f"lightning.pytorch.loggers.{logger}"
    Path("loggers.yaml").write_text(
        yaml.safe_dump({"trainer": {"loggers": [{"class_path": path}] if listed else path}})
    )
    with pytest.raises(SystemExit) as exit_:
        main(["fit", *arguments, "--config", "loggers.yaml"])
    message = str(exit_.value)
    assert path in message
    assert f"pip install -U '{package}" in message
    assert "\n" not in message


def test_the_best_checkpoint_is_found_by_its_name(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("best.yaml").write_text(
        yaml.safe_dump(
            {
                "trainer": {
                    "default_root_dir": str(tmp_path / "run"),
                    "max_rounds": 3,
                    "callbacks": [
                        {
                            "class_path": "lit_fed.callbacks.RoundCheckpoint",
                            "init_args": {"monitor": "val/loss", "mode": "max", "keep_last": 1},
                        }
                    ],
                }
            }
        )
    )
    main(["fit", *arguments, "--config", "best.yaml"])
    checkpoints = tmp_path / "run" / "checkpoints"
    best = json.loads((checkpoints / "best.json").read_text())["checkpoint"]
    assert best != "round=0003"  # its loss falls
    capsys.readouterr()
    for path in ("best", str(checkpoints / best)):
        main(["test", *arguments, "--config", "best.yaml", "--ckpt_path", path])
    tables = capsys.readouterr().out.splitlines()
    assert tables[: len(tables) // 2] == tables[len(tables) // 2 :]


def test_null_where_it_is_documented(arguments: list[str], tmp_path: Path) -> None:
    main(
        [
            "fit",
            *arguments,
            "--model.backbone.peft=null",
            *("--trainer.local_epochs=null", "--trainer.local_steps=1", "--trainer.max_rounds=1"),
            f"--trainer.default_root_dir={tmp_path / 'run'}",
        ]
    )
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved["model"]["init_args"]["backbone"]["init_args"]["peft"] is None
    assert saved["trainer"]["local_epochs"] is None
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["rounds"] == 1


def test_validation_is_called_so_and_an_untrained_model_too(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.warns(UserWarning, match="validate takes FedAvg as it was given: this trainer has"):
        main(["validate", *arguments])
    head = capsys.readouterr().out.splitlines()[2]
    assert "validation" in head
    assert "test" not in head
    assert "best" not in head


def test_what_cannot_be_resumed_is_said_before_training_and_leaves_nothing(
    arguments: list[str], tmp_path: Path
) -> None:
    def refused(*words: str) -> str:
        with pytest.raises(SystemExit) as exit_:
            main(["fit", *arguments, *words])
        assert exit_.value.code not in (0, None)
        return str(exit_.value)

    run = tmp_path / "run"
    main(["fit", *arguments, f"--trainer.default_root_dir={run}", "--trainer.max_rounds=1"])
    before = sorted(tmp_path.rglob("*"))
    resume = (f"--trainer.default_root_dir={run}", "--ckpt_path=last")
    rate = refused(*resume, "--model.optimizer.lr=0.5", "--data.batch_size=4").splitlines()
    assert rate[0].startswith(f"lit-fed: error: checkpoint {run}")
    assert rate[1:3] == [
        "  `model.optimizer.lr` is expected to be 0.01 as in the checkpoint, but is 0.5",
        "  `data.batch_size` is expected to be 32 as in the checkpoint, but is 4",
    ]
    rank = refused(*resume, "--model.backbone.peft=peft.LoraConfig", "--model.backbone.peft.r=3")
    assert "`model.backbone.peft.r` is expected to be 8 as in the checkpoint, but is 3" in rank
    for words, said in (
        (("--ckpt_path=best",), "`ckpt_path` is 'best', which expects"),
        ((f"--ckpt_path={tmp_path}/absent.csv",), "is expected to be a checkpoint folder"),
        (("--trainer.default_root_dir=/proc/lit_fed",), "`trainer.default_root_dir` is expected"),
    ):
        message = refused(*words)
        assert said in message
        assert "\n" not in message
    assert sorted(tmp_path.rglob("*")) == before
    main(["fit", *arguments, *resume, "--data.batch_size=16", "--trainer.resume_with_changes=true"])
    changes = json.loads((run / "summary.json").read_text())["changes"]
    assert changes == [{"round": 1, "setting": "data.batch_size", "before": 32, "now": 16}]


def test_runs_are_numbered_under_their_name(arguments: list[str], tmp_path: Path) -> None:
    for _ in range(2):
        main(["fit", *arguments, "--trainer.name=mine", "--trainer.max_rounds=1"])
    assert sorted(p.name for p in (tmp_path / "runs" / "mine").iterdir()) == [
        "version_0",
        "version_1",
    ]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            ["--trainer.max_rounds=0"],
            "`trainer.max_rounds` is expected to be at least 1, but got 0",
        ),
        (["--data.num_clients=500"], "data.num_clients"),
        (["--data.encoding.text=nothing"], "data.encoding.text"),
        (["--data.train.path=absent.csv"], "absent.csv"),
        (["--model.backbone.model=absent_folder/model"], "model.backbone.model"),
        (
            ["--trainer.clients_per_round=9"],
            "`trainer.clients_per_round` is expected between 1 and",
        ),
        (["--config=absent.yaml"], "there is no 'absent.yaml'"),
        (["--config=lora_fedvag"], "there is no 'lora_fedvag'; did you mean 'lora_fedavg'?"),
        (
            ["--trainer.local_epochs=null"],
            "`trainer.local_epochs` or `trainer.local_steps` is expected to be at least 1, but both are null",
        ),
        (["--model.optimizer.lr=-1"], "`model.optimizer.lr` is refused by the optimizer"),
        (["--model.optimizer.weight_decay=-1"], "`model.optimizer.weight_decay` is refused"),
        (["--trainer.accelerator=tpu"], "`trainer.accelerator` 'tpu' is expected to be possible"),
        (["--trainer.accelerator=gpuu"], "`trainer.accelerator` 'gpuu' is expected to be possible"),
        (["--trainer.strategy=fspd"], "`trainer.strategy` 'fspd' is expected to be possible"),
        (
            ["--ckpt_path=best"],
            "RoundCheckpoint writes it where its `monitor` names a metric",
        ),
        (["--ckpt_path=rows.csv"], "`ckpt_path` is expected to be a checkpoint folder"),
        (["--ckpt_path=absent"], "`ckpt_path` is expected to be a checkpoint folder"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], wrong: list[str], said: str
) -> None:
    Path("rows.csv").write_text("text,label\ngood,1\n")
    with pytest.raises(SystemExit) as exit_:
        main(["fit", *arguments, *wrong])
    message = str(exit_.value)
    assert message.startswith("lit-fed: error: ")
    assert said in message
    assert "\n" not in message


def test_help_documents_the_method(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        LitFedCLI(["fit", "--model", "FedAvg", "--model.help"])
    shown = capsys.readouterr().out
    for argument in (
        "--model.backbone",
        "--model.aggregation",
        "--model.optimizer",
        "--model.warmup_steps",
    ):
        assert argument in shown
    assert "Linear warm-up" in shown


@pytest.mark.parametrize(
    "words", [["fit"], ["export"], ["fit", "--model", "FedAvg", "--model.help"]]
)
def test_help_is_without_markup(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*words, "--help"] if len(words) == 1 else words)
    shown = capsys.readouterr().out
    assert "lit_fed.FederatedModule" in shown or len(words) > 1
    assert not re.search(r":\w+:`|``", shown)


def test_a_command_without_a_method_is_told_how_one_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["fit"])
    said = capsys.readouterr().err
    assert "`model` is expected to be a method, of a configuration (--config lora_fedavg)" in said
    assert said.count("\n") == 1


def test_print_config_can_be_run_again(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        LitFedCLI(["fit", *arguments, "--print_config"])
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    main(["fit", "--config", "printed.yaml", "--trainer.fast_dev_run=true"])


def test_clients_run_at_once_by_a_setting(arguments: list[str], tmp_path: Path) -> None:
    execution = {
        "class_path": "lit_fed.federation.VectorizedClients",
        "init_args": {"clients_at_once": 2},
    }
    overlay = tmp_path / "at_once.yaml"
    overlay.write_text(yaml.safe_dump({"trainer": {"execution": execution}}))
    runs = []
    for name, more in (("alone", []), ("at_once", ["--config", str(overlay)])):
        main(["fit", *arguments, *more, f"--trainer.default_root_dir={tmp_path / name}"])
        runs.append(json.loads((tmp_path / name / "summary.json").read_text()))
    saved = yaml.safe_load((tmp_path / "at_once" / "config.yaml").read_text())
    assert saved["trainer"]["execution"] == execution
    assert runs[1]["bytes"] == runs[0]["bytes"]
    assert runs[1]["metrics"]["val/loss"] == pytest.approx(runs[0]["metrics"]["val/loss"], abs=1e-3)
