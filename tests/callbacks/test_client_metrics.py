import csv
import json
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_fed import FedAvg
from lit_fed.aggregation import LocalOnly
from lit_fed.callbacks import ClientMetrics
from lit_fed.callbacks.client_metrics import worst_clients
from lit_fed.payload import Payload
from lit_fed.update import Update
from tests.callbacks.conftest import StandInTrainer
from tests.federation.toy import (
    fast_adamw,
    toy_backbone,
    toy_data,
    toy_rows,
    toy_trainer,
    without_times,
)
from tests.slow import slow_but

ODD = ["ward 1/east", "Ward 1/East", "病房" * 100, 'a|b, "c".', "..", "[/b] [red]", "x" * 200]


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "clients.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def odd_data() -> Any:
    clients = {name: toy_rows(16, seed) for seed, name in enumerate(ODD)}
    return toy_data(train=clients, partitioner=None, num_clients=None, public=None)


@pytest.mark.parametrize("alone", slow_but(True, of=[False, True]))
def test_odd_names_survive_a_run_that_is_broken_off_and_resumed(
    toy_model: Path, tmp_path: Path, alone: bool
) -> None:
    def run(name: str, rounds: int, ckpt_path: str | None = None) -> Any:
        module = FedAvg(
            toy_backbone(toy_model),
            aggregation=LocalOnly() if alone else None,
            optimizer=fast_adamw,
            warmup_steps=0,
        )
        trainer = toy_trainer(
            tmp_path / name,
            max_rounds=rounds,
            clients_per_round=1.0,
            keep_optimizer_state=True,
            client_state_mb=0,
            loggers=True,
            enable_progress_bar=True,
            validate_clients=True,
        )
        trainer.fit(module, odd_data(), ckpt_path=ckpt_path)
        return trainer

    whole = run("whole", 2)
    run("parts", 1)
    # as a run leaves it that is killed in its second round
    with (tmp_path / "parts" / "clients.csv").open("a") as file:
        file.write("2,torn")
    parts = run("parts", 2, "last")
    assert without_times(parts.federation.history) == without_times(whole.federation.history)
    assert list(parts.federation.clients) == list(parts.federation.ledger.clients) == ODD
    written = rows_of(tmp_path / "parts")
    assert written == rows_of(tmp_path / "whole")
    assert [(row["round"], row["client"]) for row in written] == [(r, c) for r in "12" for c in ODD]
    assert all(float(row["val/accuracy"]) >= 0 and row["rows"] == "16" for row in written)
    summary = json.loads((tmp_path / "parts" / "summary.json").read_text())
    assert summary["worst_clients"]["metric"] == "val/accuracy"
    assert len(summary["worst_clients"]["clients"]) == 3
    if alone:
        folders = [p for p in (tmp_path / "parts" / "adapter").iterdir() if p.is_dir()]
        assert len({p.name.lower() for p in folders}) == len(ODD)


def update(name: str, **metrics: float) -> Update:
    return Update(name, Payload(), 3, metrics={k.replace("__", "/"): v for k, v in metrics.items()})


def test_new_columns_and_tensorboard(trainer: StandInTrainer) -> None:
    logger = TensorBoardLogger(str(trainer.log_dir), name="", version="")
    trainer.loggers = [logger]
    callback = ClientMetrics(most_in_tensorboard=2)
    for updates in (
        [update("a", train__loss=1.0)],
        [
            update("b", train__loss=2.0, val__f1=0.5),
            update("a|", val__f1=0.25),
            update("c", val__f1=1.0),
        ],
    ):
        trainer.call([callback], "on_round_start", [])
        trainer.call([callback], "on_aggregate_end", updates)
        trainer.finish_round([callback])
    rows = rows_of(trainer.log_dir)
    assert [(r["round"], r["client"], r["train/loss"], r["val/f1"]) for r in rows] == [
        ("1", "a", "1.0", ""),
        ("2", "b", "2.0", "0.5"),
        ("2", "a|", "", "0.25"),
        ("2", "c", "", "1.0"),
    ]
    logger.finalize("success")
    board = EventAccumulator(str(trainer.log_dir)).Reload()
    (tag,) = board.Tags()["tensors"]
    text = board.Tensors(tag)[1].tensor_proto.string_val[0].decode()
    assert text.splitlines()[2].startswith("| a&#124; |")
    assert text.splitlines()[3].startswith("| b |")
    assert text.endswith("and 1 more")


def test_the_worst_are_told_by_validation_then_by_loss() -> None:
    rows = {c: {"train/loss": float(i), "val/loss": 2.0 - i} for i, c in enumerate("abc")}
    assert worst_clients(rows, 2) == ("val/loss", {"a": 2.0, "b": 1.0})
    assert worst_clients({"a": {"train/loss": 1.0}, "b": {"train/loss": float("nan")}}) is not None
    assert worst_clients({"a": {"train/loss": 1.0}}) is None
