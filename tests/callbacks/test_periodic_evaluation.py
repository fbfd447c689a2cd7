"""When callbacks that evaluate between rounds do, and over what."""

import math
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping

from lit_fed.callbacks import FairnessEvaluation, ShiftEvaluation
from lit_fed.data import IIDPartitioner
from tests.federation.toy import toy_data, toy_module, toy_rows, toy_trainer


def shifted(**settings: Any) -> Any:
    return toy_data(test={"test": toy_rows(40, 2), "other": toy_rows(60, 5)}, **settings)


def test_the_round_that_an_early_stop_ends_with_is_the_last(
    toy_model: Path, tmp_path: Path
) -> None:
    stop = EarlyStopping("val/loss", patience=1, min_delta=10.0)
    trainer = toy_trainer(tmp_path, max_rounds=20, callbacks=[stop, ShiftEvaluation()])
    trainer.fit(toy_module(toy_model), shifted())
    first, last = trainer.federation.history
    assert "index/GuS" not in first
    assert last["index/GuS"] == pytest.approx(100 * last["shift/accuracy/other"])


def test_an_end_that_comes_behind_the_evaluations_is_said(toy_model: Path, tmp_path: Path) -> None:
    class Enough(Callback):
        def on_round_report(self, trainer: Any, module: Any, metrics: Any) -> None:
            trainer.should_stop = True

    trainer = toy_trainer(tmp_path, max_rounds=5, callbacks=[Enough(), ShiftEvaluation()])
    with pytest.warns(UserWarning, match="ShiftEvaluation has not evaluated round 1, the last one"):
        trainer.fit(toy_module(toy_model), shifted())


def test_errors_are_those_of_the_rows_that_are_evaluated(toy_model: Path, tmp_path: Path) -> None:
    """Of the first 16 of 60 rows, that of a mean of so many."""
    trainer = toy_trainer(
        tmp_path,
        max_rounds=1,
        clients_per_round=2,
        callbacks=[ShiftEvaluation(), FairnessEvaluation()],
        limit_test_batches=2,
    )
    trainer.fit(
        toy_module(toy_model),
        shifted(
            partitioner=IIDPartitioner(),
            num_clients=2,
            client_validation_fraction=0.4,
            eval_batch_size=8,
        ),
    )
    last = trainer.federation.history[-1]
    accuracy = last["shift/accuracy/other"]
    assert accuracy * 16 == pytest.approx(round(accuracy * 16))
    drawn = 100 * math.sqrt(accuracy * (1 - accuracy) / 16)
    assert last["index/GuS/error"] == pytest.approx(drawn, rel=0.1)
    held = [min(16, len(client.validation)) for client in trainer.datamodule.clients]
    assert max(len(client.validation) for client in trainer.datamodule.clients) > 16
    assert held == [16, 16]
    own = [
        trainer.evaluate(client.validation)["test/accuracy"]
        for client in trainer.datamodule.clients
    ]
    spread = ((own[0] - own[1]) / 2) ** 2
    drawn = sum(a * (1 - a) / 15 for a in own) / 4
    assert last["fairness/accuracy/excess_variance"] == pytest.approx(spread - drawn, abs=1e-6)
