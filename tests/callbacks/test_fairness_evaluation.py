"""The clients' spread of the global model's accuracy, beside NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lit_fed import FedAvg
from lit_fed.aggregation import LocalOnly
from lit_fed.callbacks import FairnessEvaluation
from lit_fed.callbacks.fairness_evaluation import excess_variance
from tests.federation.toy import (
    fast_adamw,
    save_toy_model,
    toy_backbone,
    toy_data,
    toy_module,
    toy_trainer,
)


def test_the_spread_is_that_of_the_clients_own_rows(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, callbacks=[FairnessEvaluation()], max_rounds=2)
    data = toy_data(client_validation_fraction=0.4)
    trainer.fit(toy_module(save_toy_model(tmp_path / "model")), data)
    first, last = trainer.federation.history
    assert not any(name.startswith("fairness/") for name in first)
    own = [client.validation for client in data.clients if client.validation]
    assert len(own) > 1
    accuracies = np.array([trainer.evaluate(rows)["test/accuracy"] for rows in own])
    expected = {
        "mean": accuracies.mean(),
        "variance": accuracies.var(),
        "std": accuracies.std(),
        "worst": accuracies.min(),
        "gap": accuracies.max() - accuracies.min(),
        "jain": accuracies.sum() ** 2 / len(own) / (accuracies**2).sum(),
    }
    expected["excess_variance"] = excess_variance(accuracies, [len(rows) for rows in own])
    for name, value in expected.items():
        assert last[f"fairness/accuracy/{name}"] == pytest.approx(value)


def test_nothing_is_in_excess_where_all_clients_are_served_alike() -> None:
    rng = np.random.default_rng(0)
    counts, p = [40, 80, 25, 60], 0.8
    drawn = rng.binomial(counts, p, (20_000, 4)) / counts
    found = np.array([excess_variance(row, counts) for row in drawn])
    variances = drawn.var(axis=1)
    # without it a sample's variance is far from 0
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found)) < 0.03 * variances.mean()
    apart = rng.binomial(counts, [0.6, 0.9, 0.8, 0.7], (20_000, 4)) / counts
    own = np.mean([excess_variance(row, counts) for row in apart])
    assert own == pytest.approx(np.var([0.6, 0.9, 0.8, 0.7]), rel=0.03)


def test_clients_without_rows_of_their_own_are_refused(tmp_path: Path) -> None:
    model = save_toy_model(tmp_path / "model")
    with pytest.raises(ValueError, match="client_validation_fraction` is 0"):
        toy_trainer(tmp_path, callbacks=[FairnessEvaluation()]).fit(toy_module(model), toy_data())
    trainer = toy_trainer(tmp_path, callbacks=[FairnessEvaluation("test/f1")], max_rounds=1)
    with pytest.raises(ValueError, match=r"`FairnessEvaluation.metric` is expected to be one of "):
        trainer.fit(toy_module(model), toy_data(client_validation_fraction=0.4))


def test_clients_with_models_of_their_own_are_served_by_all_of_these(
    toy_model: Path, tmp_path: Path
) -> None:
    module = FedAvg(toy_backbone(toy_model), aggregation=LocalOnly(), optimizer=fast_adamw)
    trainer = toy_trainer(tmp_path, callbacks=[FairnessEvaluation()], max_rounds=1)
    data = toy_data(client_validation_fraction=0.4)
    trainer.fit(module, data)
    own = [client.validation for client in data.clients if client.validation]
    means = [trainer.evaluate(rows)["clients/test/accuracy/mean"] for rows in own]
    found = trainer.federation.history[-1]
    assert found["fairness/accuracy/mean"] == pytest.approx(np.mean(means))
    assert found["fairness/accuracy/worst"] == pytest.approx(min(means))
