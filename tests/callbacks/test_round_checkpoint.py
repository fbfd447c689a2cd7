import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from lit_fed.callbacks import RoundCheckpoint
from lit_fed.federation import last_checkpoint
from lit_fed.federation.run.checkpoint import best_round, checkpoints
from tests.federation.toy import toy_data, toy_module, toy_trainer


def _names(trainer: Any) -> list[str]:
    return sorted(path.name for path in (trainer.log_dir / "checkpoints").iterdir())


def _fit(trainer: Any, callback: RoundCheckpoint, scores: list[float]) -> None:
    trainer.max_rounds = trainer.federation.round + len(scores)
    trainer.call([callback], "on_fit_start")
    for score in scores:
        trainer.finish_round([callback], val__f1=score)
    trainer.call([callback], "on_fit_end")


def test_keeps_the_newest(trainer: Any) -> None:
    _fit(trainer, RoundCheckpoint(keep_last=2), [0.1, 0.2, 0.3, 0.4])
    assert _names(trainer) == ["round=0003", "round=0004"]
    assert trainer.saved == ["round=0001", "round=0002", "round=0003", "round=0004"]


def test_keep_last_null_keeps_all(trainer: Any) -> None:
    _fit(trainer, RoundCheckpoint(keep_last=None), [0.1, 0.2, 0.3])
    assert len(_names(trainer)) == 3


def test_saves_every_nth_round_and_the_last(trainer: Any) -> None:
    _fit(trainer, RoundCheckpoint(every_n_rounds=2, keep_last=None), [0.1] * 5)
    assert _names(trainer) == ["round=0002", "round=0004", "round=0005"]


@pytest.mark.parametrize(
    ("mode", "scores", "best"),
    [("max", [0.1, 0.9, 0.3, 0.9, 0.2], 2), ("min", [0.5, 0.9, 0.1, 0.9, 0.2], 3)],
)
def test_the_best_is_kept_and_named(
    trainer: Any, mode: Any, scores: list[float], best: int
) -> None:
    callback = RoundCheckpoint(every_n_rounds=4, keep_last=1, monitor="val/f1", mode=mode)
    _fit(trainer, callback, scores)
    assert _names(trainer) == ["best.json", f"round={best:04d}", "round=0005"]
    assert callback.best_path == trainer.log_dir / "checkpoints" / f"round={best:04d}"
    assert callback.best_score == scores[best - 1]
    record = json.loads((trainer.log_dir / "checkpoints" / "best.json").read_text())
    assert len(record.pop("sha256")) == 64
    assert record == {
        "checkpoint": f"round={best:04d}",
        "monitor": "val/f1",
        "mode": mode,
        "score": scores[best - 1],
    }


def test_without_save_best_the_best_goes_like_the_others(trainer: Any) -> None:
    _fit(trainer, RoundCheckpoint(keep_last=1, monitor="val/f1", save_best=False), [0.9, 0.1])
    assert _names(trainer) == ["best.json", "round=0002"]


def test_the_best_of_the_rounds_before_a_resume_counts(trainer: Any) -> None:
    _fit(trainer, RoundCheckpoint(keep_last=1, monitor="val/f1"), [0.9, 0.1])
    resumed = RoundCheckpoint(keep_last=1, monitor="val/f1")
    _fit(trainer, resumed, [0.2, 0.3])
    assert resumed.best_score == 0.9
    assert _names(trainer) == ["best.json", "round=0001", "round=0004"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory")])
def test_an_exception_saves_the_last_finished_round(trainer: Any, error: BaseException) -> None:
    callback = RoundCheckpoint(every_n_rounds=10)
    trainer.max_rounds = 20
    trainer.call([callback], "on_fit_start")
    trainer.finish_round([callback])
    trainer.finish_round([callback])
    assert trainer.saved == []
    trainer.call([callback], "on_exception", error)
    assert trainer.saved == ["round=0002"]
    trainer.call([callback], "on_exception", error)
    assert trainer.saved == ["round=0002"]


def test_an_exception_before_the_first_round_saves_nothing(trainer: Any) -> None:
    callback = RoundCheckpoint()
    trainer.call([callback], "on_exception", KeyboardInterrupt())
    trainer.call([callback], "on_fit_start")
    trainer.call([callback], "on_exception", KeyboardInterrupt())
    assert trainer.saved == []
    assert not trainer.log_dir.exists()


def test_a_run_that_goes_on_from_an_earlier_round_replaces_the_later_ones(trainer: Any) -> None:
    _fit(trainer, RoundCheckpoint(keep_last=None), [0.1, 0.2, 0.3, 0.4])
    state = trainer.federation
    trainer.federation = replace(state, round=1, history=state.history[:1])
    callback = RoundCheckpoint(keep_last=None)
    trainer.call([callback], "on_fit_start")
    assert len(checkpoints(trainer.log_dir)) == 4
    (trainer.log_dir / "checkpoints" / "round=0002" / "state.json").unlink()
    (trainer.log_dir / "checkpoints" / "round=0002").rmdir()
    trainer.finish_round([callback], val__f1=0.5)
    callback.wait()
    assert _names(trainer) == ["round=0001", "round=0002"]


def test_no_files_in_a_fast_dev_run_or_on_other_processes(trainer: Any) -> None:
    trainer.fast_dev_run = 1
    _fit(trainer, RoundCheckpoint(), [0.5])
    trainer.fast_dev_run, trainer.is_global_zero = 0, False
    _fit(trainer, RoundCheckpoint(), [0.5])
    assert not trainer.log_dir.exists()


def test_last_checkpoint_counts_rounds_as_numbers(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "nowhere") is None
    folder = tmp_path / "checkpoints"
    for name in ("round=9999", "round=10000", ".writing-round=10001", "round=best"):
        (folder / name).mkdir(parents=True)
    (folder / "round=20000").write_text("a file, no checkpoint")
    assert last_checkpoint(tmp_path) == folder / "round=10000"
    assert last_checkpoint(folder) == folder / "round=10000"


def test_best_round_passes_over_rounds_without_a_number() -> None:
    history = [{"f1": float("nan")}, {}, {"f1": -1.0}, {"f1": -0.5}]
    assert best_round(history, "f1") == 4
    assert best_round(history, "f1", "min") == 3
    assert best_round(history[:2], "f1") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every_n_rounds": 0}, "`every_n_rounds` is expected to be at least 1, but got 0"),
        ({"keep_last": 0}, "`keep_last` is expected to be at least 1, but got 0"),
        ({"mode": "most"}, "`mode` is expected to be 'min' or 'max', but got 'most'"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        RoundCheckpoint(**arguments)


def test_an_unknown_monitor_is_named_and_the_round_is_not_lost(trainer: Any) -> None:
    callback = RoundCheckpoint(monitor="val/acc")
    trainer.call([callback], "on_fit_start")
    with pytest.raises(ValueError, match=r"`monitor` .* one of .*'val/f1'.* got 'val/acc'"):
        trainer.finish_round([callback], val__f1=0.5)
    callback.wait()
    assert trainer.saved == ["round=0001"]


def test_a_round_without_validation_does_not_blame_the_monitor(trainer: Any) -> None:
    callback = RoundCheckpoint(monitor="val/f1")
    trainer.call([callback], "on_fit_start")
    trainer.finish_round([callback], train__loss=0.5)
    assert callback.best_path is None


def test_is_written_beside_the_next_rounds_first_client(trainer: Any) -> None:
    may_write, written = Event(), []

    def writer(path: Path) -> Callable[[], None]:
        def write() -> None:
            may_write.wait(10)
            written.append(path.name)

        return write

    trainer.checkpoint_writer = writer
    callback = RoundCheckpoint()
    trainer.call([callback], "on_fit_start")
    trainer.finish_round([callback], val__f1=0.5)
    assert not written
    may_write.set()
    trainer.call([callback], "on_client_end", None)
    assert written == ["round=0001"]


def test_what_cannot_be_written_ends_the_run(trainer: Any) -> None:
    def full() -> None:
        raise OSError("no space left")

    trainer.checkpoint_writer = lambda path: full
    callback = RoundCheckpoint()
    trainer.call([callback], "on_fit_start")
    trainer.finish_round([callback], val__f1=0.5)
    with pytest.raises(OSError, match="no space left"):
        trainer.call([callback], "on_client_end", None)


def test_a_record_that_was_being_written_does_not_hinder_the_next_run(
    toy_model: Path, tmp_path: Path
) -> None:
    def run(rounds: int, ckpt_path: str | None = None) -> Any:
        callback = RoundCheckpoint(monitor="val/accuracy")
        trainer = toy_trainer(tmp_path / "run", max_rounds=rounds, callbacks=[callback])
        trainer.fit(toy_module(toy_model), toy_data(), ckpt_path)
        return trainer

    run(1)
    folder = tmp_path / "run" / "checkpoints"
    for name in (".writing-best.json", ".writing-file-best.json"):
        (folder / name).write_text("{")
    (folder / ".deleting-round=0007").mkdir()
    (tmp_path / "run" / ".writing-folder-adapter").mkdir()
    trainer = run(2, "last")
    assert not [name for name in _names(trainer) if name.startswith(".")]
    assert not list(trainer.log_dir.glob(".writing*"))


def test_what_a_run_that_was_killed_had_not_come_to_is_made_up_for(trainer: Any) -> None:
    _fit(trainer, RoundCheckpoint(keep_last=None, monitor="val/f1"), [0.1, 0.2, 0.9])
    folder = trainer.log_dir / "checkpoints"
    (folder / "best.json").unlink()
    resumed = RoundCheckpoint(keep_last=1, monitor="val/f1")
    trainer.call([resumed], "on_fit_start")
    assert _names(trainer) == ["best.json", "round=0003"]


def test_an_earlier_checkpoint_goes_when_the_new_one_is_there(
    trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fit(trainer, RoundCheckpoint(keep_last=None), [0.1, 0.2])
    trainer.federation = replace(trainer.federation, round=0, history=[])
    callback = RoundCheckpoint(keep_last=None)
    trainer.call([callback], "on_fit_start")

    def full(path: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(trainer, "save_checkpoint", full)
    trainer.finish_round([callback])
    with pytest.raises(OSError, match="no space"):
        callback.wait()
    assert _names(trainer) == ["round=0001", "round=0002"]
