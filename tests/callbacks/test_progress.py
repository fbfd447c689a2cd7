import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from lit_fed.callbacks import RoundProgressBar
from lit_fed.callbacks.progress import round_line


def _round(trainer: Any, callback: RoundProgressBar, **metrics: float) -> None:
    clients = [SimpleNamespace(id="c0"), SimpleNamespace(id="c1")]
    trainer.call([callback], "on_round_start", clients)
    trainer.call([callback], "on_client_start", clients[0])
    trainer.call([callback], "on_train_batch_end", torch.tensor(0.125), {}, 0)
    trainer.call([callback], "on_client_end", SimpleNamespace(client_id="c0"))
    trainer.call([callback], "on_client_start", clients[1])
    trainer.call([callback], "on_client_failed", clients[1], ValueError("nan"))
    trainer.call([callback], "on_validation_start")
    trainer.finish_round([callback], **metrics)


def _terminal(callback: RoundProgressBar, width: int = 160) -> io.StringIO:
    screen = io.StringIO()
    callback.console = Console(
        file=screen, force_terminal=True, force_jupyter=False, width=width, legacy_windows=False
    )
    return screen


def test_a_line_per_round_where_there_is_no_terminal(
    trainer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = RoundProgressBar()
    callback.console = Console(file=io.StringIO(), force_terminal=False)
    trainer.call([callback], "on_fit_start")
    _round(trainer, callback, val__accuracy=0.5, bytes__up=1500, bytes__down=96, time__round=2)
    _round(trainer, callback, val__accuracy=0.75, bytes__up=1500, bytes__down=96, clients__failed=1)
    trainer.call([callback], "teardown", "fit")
    assert capsys.readouterr().out.splitlines() == [
        "round 1/3  val/accuracy 0.5000  up 1.5 kB  down 96 B  2.0 s",
        "round 2/3  val/accuracy 0.7500  up 1.5 kB  down 96 B  failed 1",
    ]


def test_a_line_per_round_in_a_notebook(trainer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    callback = RoundProgressBar()
    callback.console = Console(force_jupyter=True)
    trainer.call([callback], "on_fit_start")
    _round(trainer, callback, val__accuracy=0.5)
    _round(trainer, callback, val__accuracy=0.75)
    trainer.call([callback], "teardown", "fit")
    assert capsys.readouterr().out.splitlines() == [
        "round 1/3  val/accuracy 0.5000",
        "round 2/3  val/accuracy 0.7500",
    ]


def test_a_line_per_round_in_a_log_with_colours(
    trainer: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    callback = RoundProgressBar()
    trainer.call([callback], "on_fit_start")
    _round(trainer, callback, val__accuracy=0.5)
    trainer.call([callback], "teardown", "fit")
    assert capsys.readouterr().out == "round 1/3  val/accuracy 0.5000\n"


def test_bars_show_rounds_clients_loss_and_all_bytes(trainer: Any) -> None:
    callback = RoundProgressBar()
    screen = _terminal(callback)
    trainer.call([callback], "on_fit_start")
    for _ in range(2):
        _round(trainer, callback, clients__train__loss__mean=0.5, bytes__up=1500, bytes__down=96)
    trainer.call([callback], "on_fit_end")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert "2/3" in shown
    assert "loss 0.5000  up 3.0 kB  down 192 B" in shown


@pytest.mark.parametrize("hook", ["on_exception", "teardown", "on_fit_end"])
def test_the_cursor_comes_back(trainer: Any, hook: str) -> None:
    callback = RoundProgressBar()
    screen = _terminal(callback)
    trainer.call([callback], "on_fit_start")
    trainer.call([callback], "on_round_start", [SimpleNamespace(id="c0")])
    assert screen.getvalue().count("\x1b[?25l") == 1
    arguments: dict[str, list[object]] = {
        "on_exception": [KeyboardInterrupt()],
        "teardown": ["fit"],
        "on_fit_end": [],
    }
    trainer.call([callback], hook, *arguments[hook])
    trainer.call([callback], "teardown", "fit")
    assert screen.getvalue().count("\x1b[?25h") == 1


def test_names_are_shown_as_they_are(trainer: Any) -> None:
    callback = RoundProgressBar(refresh_rate=1000)
    screen = _terminal(callback)
    trainer.call([callback], "on_fit_start")
    client = SimpleNamespace(id="[red]ward[/]")
    trainer.call([callback], "on_round_start", [client])
    trainer.call([callback], "on_client_start", client)
    assert callback._progress is not None
    callback._progress.refresh()
    trainer.call([callback], "teardown", "fit")
    assert "[red]ward[/]" in screen.getvalue()


def test_the_loss_is_read_no_oftener_than_the_screen(trainer: Any) -> None:
    class Counted(torch.Tensor):
        reads = 0

        def __float__(self) -> float:
            Counted.reads += 1
            return 0.0

    callback = RoundProgressBar(refresh_rate=0.1)
    _terminal(callback)
    trainer.call([callback], "on_fit_start")
    trainer.call([callback], "on_round_start", [SimpleNamespace(id="c0")])
    for index in range(100):
        loss = torch.zeros(()).as_subclass(Counted)
        trainer.call([callback], "on_train_batch_end", {"loss": loss}, {}, index)
    trainer.call([callback], "teardown", "fit")
    assert Counted.reads == 1


def test_other_processes_show_nothing(trainer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    callback = RoundProgressBar()
    screen = _terminal(callback)
    trainer.is_global_zero = False
    _round(trainer, callback, val__accuracy=0.5)
    assert screen.getvalue() == ""
    assert capsys.readouterr().out == ""


def test_a_chosen_metric_that_was_not_validated_this_round() -> None:
    assert round_line({"bytes/up": 1.0}, "val/f1") == "val/f1 –  up 1 B"
    assert round_line({"val/accuracy": 0.5, "val/f1": 0.25}, "val/f1") == "val/f1 0.2500"
    assert round_line({"val/f1": 0.25}) == "val/f1 0.2500"


def test_bad_refresh_rate() -> None:
    with pytest.raises(
        ValueError, match="`refresh_rate` is expected to be finite and above 0, but got 0"
    ):
        RoundProgressBar(refresh_rate=0)


def test_clients_that_prepare_are_told_with_their_bytes(
    trainer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    callback = RoundProgressBar()
    trainer.datamodule = SimpleNamespace(clients=[None, None])
    trainer.call([callback], "on_fit_start")
    client, prepared = SimpleNamespace(id="north"), SimpleNamespace(nbytes=1500)
    trainer.call([callback], "on_client_prepared", client, prepared)
    assert capsys.readouterr().out == "prepared north  1.5 kB\n"
    callback.console = Console(file=io.StringIO(), force_terminal=True, width=80)
    trainer.call([callback], "on_client_prepared", client, prepared)
    callback._progress.refresh()
    trainer.call([callback], "teardown", "fit")
    assert "prepare" in callback.console.file.getvalue()
    assert "1/2" in callback.console.file.getvalue()
