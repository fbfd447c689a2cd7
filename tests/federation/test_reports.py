"""What is published of a round is there once, wherever a run was broken off between the round's end and its report."""

import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger

from lit_fed.callbacks import (
    ClientMetrics,
    MetricsCSV,
    PartitionTable,
    RoundCheckpoint,
    TaskEvaluation,
)
from tests.federation.published import differences, published
from tests.federation.task_sequence import task_data
from tests.federation.toy import toy_module, toy_trainer
from tests.slow import slow_but

INSTANTS: dict[str, tuple[type[Any], str]] = {
    "before all": (PartitionTable, "on_round_report"),
    "in the table": (MetricsCSV, "on_round_report"),
    "in the clients' table": (ClientMetrics, "on_round_report"),
    "before the checkpoint": (RoundCheckpoint, "on_round_end"),
}


def fit(model: Path, run: Path, ckpt_path: str | None = None, callbacks: Any = ()) -> Any:
    loggers: Any = run.name == "tb" or CSVLogger(str(run), name="", version="csv")
    trainer = toy_trainer(
        run, rounds_per_task=1, callbacks=[TaskEvaluation(), *callbacks], loggers=loggers
    )
    trainer.fit(toy_module(model), task_data(), ckpt_path)
    return trainer


@pytest.fixture(scope="module", params=slow_but("csv", of=["csv", "tb"]))
def whole(request: Any, toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run: Path = tmp_path_factory.mktemp("whole") / request.param
    fit(toy_model, run)
    return run


def another_second(run: Path) -> None:
    """Wait for it: TensorBoard tells a process's files by the second, and of one second takes 10 for less than 9."""
    if run.name == "tb":
        time.sleep(1 - time.time() % 1)


# TensorBoard is one of the loggers, CSV files are written by a callback as well
@pytest.mark.parametrize(
    ("whole", "instant", "round_"),
    slow_but(
        *(("csv", instant, 1) for instant in INSTANTS),
        ("tb", "before the checkpoint", 1),
        of=product(["csv", "tb"], INSTANTS, [1, 2]),
    ),
    indirect=["whole"],
)
def test_a_report_that_was_broken_off_is_made_up_for(
    instant: str, round_: int, toy_model: Path, tmp_path: Path, whole: Path
) -> None:
    kind, hook = INSTANTS[instant]

    def interrupt(self: Any, trainer: Any, module: Any, metrics: Any) -> None:
        if trainer.federation.round == round_:
            raise KeyboardInterrupt
        getattr(kind, hook)(self, trainer, module, metrics)

    broken = type(kind.__name__, (kind,), {hook: interrupt})
    run = tmp_path / whole.name
    with pytest.warns(UserWarning, match=f"interrupted after {round_} finished rounds"):
        fit(toy_model, run, callbacks=[broken()])
    another_second(run)
    fit(toy_model, run, "last")
    assert not differences(published(run), published(whole))


def test_a_finished_run_that_is_resumed_publishes_nothing_twice(
    toy_model: Path, tmp_path: Path, whole: Path
) -> None:
    run = tmp_path / whole.name
    for ckpt_path in (None, "last", "last"):
        another_second(run)
        fit(toy_model, run, ckpt_path)
    assert not differences(published(run), published(whole))


def test_half_a_line_of_the_clients_table_is_no_row(
    toy_model: Path, tmp_path: Path, whole: Path
) -> None:
    run = tmp_path / whole.name
    fit(toy_model, run)
    lines = (run / "clients.csv").read_text().splitlines(keepends=True)
    (run / "clients.csv").write_text("".join(lines[:-1]) + "1")
    (run / "metrics.csv").unlink()
    fit(toy_model, run, "last")
    assert not differences(published(run), published(whole))
