import csv
from dataclasses import replace
from typing import Any

from lit_fed.callbacks import MetricsCSV
from lit_fed.callbacks.metrics_csv import history_csv


def test_one_row_a_round_and_the_union_of_columns(trainer: Any) -> None:
    callback = MetricsCSV()
    trainer.finish_round([callback], val__loss=0.5)
    trainer.finish_round([callback], val__loss=0.25, clients__failed=1)
    with (trainer.log_dir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"round": "1", "val/loss": "0.5", "clients/failed": ""},
        {"round": "2", "val/loss": "0.25", "clients/failed": "1"},
    ]


def test_floats_survive_to_the_last_bit() -> None:
    value = 0.1 + 0.2
    assert float(history_csv([{"a": value}]).splitlines()[1]) == value


def test_a_resumed_run_writes_what_an_uninterrupted_one_writes(trainer: Any) -> None:
    for loss in (3.0, 2.0):
        trainer.finish_round([MetricsCSV()], val__loss=loss)
    uninterrupted = (trainer.log_dir / "metrics.csv").read_bytes()

    state = trainer.federation
    trainer.federation = replace(state, round=1, history=state.history[:1])
    trainer.finish_round([MetricsCSV()], val__loss=2.0)
    assert (trainer.log_dir / "metrics.csv").read_bytes() == uninterrupted


def test_no_files_in_a_fast_dev_run_or_on_other_processes(trainer: Any) -> None:
    trainer.fast_dev_run = 1
    trainer.finish_round([MetricsCSV()], val__loss=0.5)
    trainer.fast_dev_run, trainer.is_global_zero = 0, False
    trainer.finish_round([MetricsCSV()], val__loss=0.5)
    assert not trainer.log_dir.exists()
