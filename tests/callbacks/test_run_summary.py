import io
import json
import platform
from importlib.metadata import version
from typing import Any

import pytest
import torch
from lightning.fabric.loggers import TensorBoardLogger
from rich.console import Console

from lit_fed.callbacks import RunSummary
from lit_fed.callbacks.run_summary import metrics_table


def _fit(trainer: Any, exception: BaseException | None = None, quiet: bool = False) -> str:
    callback = RunSummary(quiet)
    screen = io.StringIO()
    callback.console = Console(file=screen, width=100)
    trainer.call([callback], "on_fit_start")
    trainer.finish_round([callback], val__accuracy=0.5, bytes__up=1000, time__round=2.0)
    trainer.finish_round([callback], val__accuracy=0.75, bytes__up=500, time__round=1.0)
    if exception is None:
        trainer.final_metrics = {"test/accuracy": 0.625, "test/accuracy/far": float("nan")}
        trainer.call([callback], "on_fit_end")
    else:
        trainer.interrupted = isinstance(exception, KeyboardInterrupt)
        trainer.call([callback], "on_exception", exception)
    trainer.call([callback], "teardown", "fit")
    return screen.getvalue()


def test_summary_json(trainer: Any) -> None:
    digests = {"model.backbone.frozen weights": "3 values, ab", "data.test.far": "2 rows, cd"}
    trainer.identity = digests | {"model.lr": 0.1, "data.max_length": 64}
    _fit(trainer)
    text = (trainer.log_dir / "summary.json").read_text("utf-8")
    assert "NaN" not in text
    summary = json.loads(text)
    assert summary["metrics"] == {
        "val/accuracy": 0.75,
        "test/accuracy": 0.625,
        "test/accuracy/far": None,
    }
    assert summary["bytes"] == {"up": 1500, "down": 0, "total": 1500}
    assert summary["seconds"]["rounds"] == 3.0
    assert 0 <= summary["seconds"]["process"] < 60
    assert summary["rounds"] == 2
    assert summary["seed"] == 7
    assert not summary["interrupted"]
    assert summary["versions"]["python"] == platform.python_version()
    assert summary["machine"]["threads"] == torch.get_num_threads()
    assert summary["machine"]["processor"]
    assert summary["digests"] == digests
    assert summary["versions"]["torch"] == torch.__version__
    assert summary["versions"]["peft"] == version("peft")
    assert {"lit_fed", "lightning", "transformers"} <= set(summary["versions"])


def test_what_the_server_reports_is_that_of_all_rounds(trainer: Any) -> None:
    callback = RunSummary()
    callback.console = Console(file=(screen := io.StringIO()), width=100)
    trainer.call([callback], "on_fit_start")
    for row in ({"epsilon": 2.0, "bytes_saved": -3.0}, {"epsilon": 4.0, "bytes_saved": 10.0}, {}):
        trainer.finish_round([callback], **{f"server__{name}": v for name, v in row.items()})
    trainer.call([callback], "on_fit_end")
    trainer.call([callback], "teardown", "fit")
    summary = json.loads((trainer.log_dir / "summary.json").read_text("utf-8"))
    assert not summary["metrics"]
    assert summary["privacy"] == {"server_epsilon": 4.0}
    assert summary["bytes"]["saved"] == 7
    assert "sent         ε 4 of all that a client has sent (server/epsilon)\n" in screen.getvalue()


def test_the_screen_names_results_and_folders(trainer: Any) -> None:
    trainer.loggers = [TensorBoardLogger(str(trainer.log_dir), name="", version="")]
    for name in ("checkpoints/round=0002", "adapter"):
        (trainer.log_dir / name).mkdir(parents=True)
    lines = _fit(trainer).splitlines()
    table = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    assert ["val/accuracy", "0.5000", "0.7500 (round 2)", "0.7500", "0.6250"] in table
    assert ["test/accuracy/far", "", "", "", "nan"] in table
    assert "bytes        1.5 kB up, 0 B down" in lines
    assert "failures     none" in lines
    curves = "http://localhost:6006/#custom_scalars&_smoothingWeight=0"
    assert f"TensorBoard  tensorboard --logdir {trainer.log_dir}  (curves: {curves})" in lines
    assert f"checkpoint   {trainer.log_dir}/checkpoints/round=0002" in lines
    assert f"adapter      {trainer.log_dir}/adapter" in lines


def test_a_quiet_one_writes_its_file_alone(trainer: Any) -> None:
    assert _fit(trainer, quiet=True) == ""
    assert (trainer.log_dir / "summary.json").is_file()


def test_an_interrupted_run_is_summed_up(trainer: Any) -> None:
    assert "val/accuracy" in _fit(trainer, KeyboardInterrupt())
    summary = json.loads((trainer.log_dir / "summary.json").read_text("utf-8"))
    assert summary["interrupted"]
    assert summary["rounds"] == 2


def test_a_failed_run_is_not(trainer: Any) -> None:
    assert _fit(trainer, RuntimeError("disk full")) == ""
    assert not trainer.log_dir.exists()


def test_a_fast_dev_run_leaves_no_file(trainer: Any) -> None:
    trainer.fast_dev_run = 1
    assert "val/accuracy" in _fit(trainer)
    assert not trainer.log_dir.exists()


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_only_a_fit_is_summed_up(trainer: Any, stage: str) -> None:
    callback = RunSummary()
    trainer.call([callback], "on_fit_end")
    trainer.call([callback], "teardown", stage)
    assert not trainer.log_dir.exists()


def test_an_interrupt_before_the_first_round(trainer: Any) -> None:
    callback = RunSummary()
    callback.console = Console(file=(screen := io.StringIO()))
    trainer.call([callback], "on_fit_start")
    trainer.call([callback], "on_exception", KeyboardInterrupt())
    trainer.call([callback], "teardown", "fit")
    assert screen.getvalue() == ""


def test_what_is_told_of_training_or_a_server_has_no_best_round() -> None:
    names = (
        *("train/consensus", "server/abstain_rate", "privacy/epsilon"),
        *("defense/CUBE/poisoned_rows_kept", "fairness/accuracy/variance"),
        *("clients/train/kept_share/mean", "similarity/tfidf_cosine"),
    )
    table = metrics_table([dict.fromkeys(names, 0.5), dict.fromkeys(names, 1.0)])
    assert list(table.columns[2].cells) == ["–"] * len(names)
    names = ("train/loss", "index/PE", "server/answer_accuracy/mean", "index/SRS")
    table = metrics_table([dict.fromkeys(names, 0.5), dict.fromkeys(names, 1.0)])
    assert list(table.columns[2].cells) == ["0.5000 (round 1)"] * 2 + ["1.0000 (round 2)"] * 2


def test_the_best_loss_is_the_smallest_and_clients_show_their_mean() -> None:
    history = [
        {"round": 1, "val/loss": 0.5, "clients/val/f1/mean": 0.25, "clients/val/f1/std": 0.1},
        {"round": 2, "val/loss": 0.75, "clients/val/f1/mean": 0.5, "bytes/up": 3.0},
    ]
    table = metrics_table(history)
    rows = list(zip(*(list(column.cells) for column in table.columns), strict=True))
    assert rows == [
        ("val/loss", "0.5000", "0.5000 (round 1)", "0.7500", ""),
        ("val/f1 (clients' mean)", "0.2500", "0.5000 (round 2)", "0.5000", ""),
    ]
