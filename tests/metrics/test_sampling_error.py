"""Standard errors beside many simulated test sets, and by hand."""

import numpy as np
import pytest
import torch

from lit_fed.metrics import (
    backward_transfer,
    sampling_error,
    semantic_retention,
    task_transfer,
)


def test_of_a_mean_by_hand() -> None:
    accuracy, count = torch.tensor([0.25, 1.0]), torch.tensor([16.0, 4.0])
    p = np.array([4.5 / 17, 4.5 / 5])
    expected = 50 * np.sqrt((p * (1 - p) / np.array([16, 4])).sum())
    found = sampling_error(lambda a: 100 * a.mean(), accuracy, count)
    assert float(found) == pytest.approx(expected)


@pytest.mark.parametrize("index", [backward_transfer, task_transfer, semantic_retention])
def test_beside_simulated_test_sets(index: object) -> None:
    """The spread of the index over test sets that are drawn anew."""
    truth = np.array([[0.9, 0.4, 0.3], [0.7, 0.85, 0.5], [0.6, 0.7, 0.95]])
    rows = 400
    draws = np.random.default_rng(0).binomial(rows, truth, size=(4000, 3, 3)) / rows
    spread = np.std([float(index(torch.tensor(draw))) for draw in draws])  # type: ignore[operator]
    error = sampling_error(index, torch.tensor(truth), torch.full((3, 3), float(rows)))  # type: ignore[arg-type]
    assert float(error) == pytest.approx(spread, rel=0.1)


def test_cells_that_were_not_evaluated_add_nothing() -> None:
    nan = float("nan")
    accuracy = torch.tensor([[0.5, nan], [0.5, 0.5]])
    count = torch.tensor([[100.0, 0.0], [100.0, 100.0]])
    expected = 100 * np.sqrt(2 * (50.5 / 101) * (1 - 50.5 / 101) / 100)
    assert float(sampling_error(backward_transfer, accuracy, count)) == pytest.approx(expected)
    one = torch.tensor([[0.5, nan], [nan, nan]])
    assert sampling_error(backward_transfer, one, count).isnan()


def test_works_without_gradients() -> None:
    with torch.inference_mode():
        found = sampling_error(task_transfer, torch.rand(2, 2), torch.full((2, 2), 10.0))
    assert found > 0
