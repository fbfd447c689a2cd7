"""Standard errors beside many simulated test sets, and by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_fed.metrics import (
    above_chance,
    backward_transfer,
    macro_accuracy,
    retention_since_learnt,
    sampling_error,
    semantic_retention,
    shift_ratio,
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


NAN = float("nan")


def error_of(index: Callable[[Tensor], Tensor], rows: list[Any]) -> tuple[float, float]:
    """An index and its error, with 100 rows in each cell that was evaluated."""
    accuracy = torch.tensor(rows)
    error = sampling_error(index, accuracy, 100.0 * ~accuracy.isnan())
    return float(index(accuracy)), float(error)


def binomial(accuracy: float) -> float:
    p = (100 * accuracy + 0.5) / 101
    return math.sqrt(p * (1 - p) / 100)


@pytest.mark.parametrize(
    ("rows", "chance", "value"),
    [
        # a task that was never right: 0/0
        ([[0.0, NAN, NAN], [0.0, 0.9, NAN], [0.0, 0.8, 0.9]], 0.0, 50 * 0.8 / 0.9),
        ([[0.0, NAN], [0.0, 0.9]], 0.0, 0.0),
        # never right before the last one
        ([[0.0, NAN], [0.5, 0.9]], 0.0, 100.0),
        # at or below chance
        ([[0.9, NAN], [0.4, 0.9]], 0.5, 0.0),
        ([[0.9, NAN], [0.5, 0.9]], 0.5, 0.0),
        ([[0.4, NAN], [0.4, 0.9]], 0.5, 0.0),
        ([[0.4, NAN], [0.9, 0.9]], 0.5, 100.0),
    ],
)
def test_retention_has_no_error_where_it_bends_or_jumps(
    rows: list[list[float]], chance: float, value: float
) -> None:
    found, error = error_of(lambda r: semantic_retention(r, chance), rows)
    assert found == pytest.approx(value)
    assert math.isnan(error)


def test_retention_has_an_error_elsewhere() -> None:
    # never right any more is no bend where chance is 0
    lost = [[0.8, NAN], [0.0, 0.9]]
    for index in (semantic_retention, retention_since_learnt):
        assert error_of(index, lost) == (0.0, pytest.approx(100 / 0.8 * binomial(0), rel=1e-5))
    # a cell below chance on which nothing depends
    rows = [[0.9, NAN, NAN], [0.4, 0.8, NAN], [0.7, 0.8, 0.9]]
    value, error = error_of(lambda r: semantic_retention(r, 0.5), rows)
    assert value == pytest.approx(75)
    squares = [(0.5 / 0.4 * binomial(0.7)) ** 2, (0.5 * 0.2 / 0.4**2 * binomial(0.9)) ** 2]
    squares += 2 * [(0.5 / 0.3 * binomial(0.8)) ** 2]
    assert error == pytest.approx(100 * math.sqrt(sum(squares)), rel=1e-5)


def test_what_was_never_learnt_has_no_retention_since_then() -> None:
    value, error = error_of(retention_since_learnt, [[0.0, NAN], [0.0, 0.9]])
    assert value == 0
    assert math.isnan(error)
    value, error = error_of(lambda r: retention_since_learnt(r, 0.5), [[0.9, NAN], [0.4, 0.9]])
    assert value == 0
    assert math.isnan(error)


def test_shifts_have_no_error_where_their_index_bends_or_jumps() -> None:
    assert math.isnan(error_of(lambda a: macro_accuracy(above_chance(a, 0.5)), [0.9, 0.4])[1])
    assert error_of(lambda a: macro_accuracy(above_chance(a, 0.0)), [0.9, 0.0])[1] > 0
    value, error = error_of(lambda a: shift_ratio(a[:-1], a[-1]), [0.0, 0.0, 0.0])
    assert value == 0
    assert math.isnan(error)
