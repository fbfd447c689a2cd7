import re

import pytest
import torch

from lit_fed.metrics.arguments import index_within, positive_integer, weighted_sum

CPU = torch.device("cpu")


def test_weighted_sum_counts_what_was_correct() -> None:
    total, count = weighted_sum(torch.tensor([[True, False], [True, True]]), 1.0, 0.0, 1.0, CPU)
    assert (total.item(), count.item()) == (3.0, 4.0)


def test_weighted_sum_weighs_each_entry() -> None:
    value, weight = torch.tensor([0.5, 1.0]), torch.tensor([4, 0])
    total, count = weighted_sum(value, weight, 0.0, 1.0, CPU)
    assert (total.item(), count.item()) == (2.0, 4.0)


def test_nothing_adds_nothing() -> None:
    total, count = weighted_sum(torch.empty(0), 1.0, 0.0, 1.0, CPU)
    assert (total.item(), count.item()) == (0.0, 0.0)


@pytest.mark.parametrize(("value", "shown"), [(85.0, "85"), (-0.1, "-0.1"), (float("nan"), "nan")])
def test_value_out_of_range(value: float, shown: str) -> None:
    message = f"`value` is expected to lie from 0 to 1 (a share, not a percentage), but got {shown}"
    with pytest.raises(ValueError, match=re.escape(message)):
        weighted_sum(value, 1.0, 0.0, 1.0, CPU)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_bad_weight(weight: float) -> None:
    with pytest.raises(ValueError, match="`weight` is expected to be finite and at least 0, but"):
        weighted_sum(1.0, weight, 0.0, 1.0, CPU)


def test_weight_of_another_shape() -> None:
    with pytest.raises(ValueError, match=re.escape("the shape of `value`, [3], but has shape [2]")):
        weighted_sum(torch.ones(3), torch.ones(2), 0.0, 1.0, CPU)


def test_index_within() -> None:
    assert index_within("task", torch.tensor(1), 0, 3) == 1
    with pytest.raises(ValueError, match="`task` is expected to be an integer from 0 to 2, but"):
        index_within("task", 3, 0, 3)
    with pytest.raises(TypeError, match=re.escape("`task` is expected to be an integer, but got ")):
        index_within("task", 1.0, 0, 3)  # type: ignore[arg-type]


def test_positive_integer() -> None:
    with pytest.raises(ValueError, match="`num_tasks` is expected to be at least 1, but got 0"):
        positive_integer("num_tasks", 0)
    with pytest.raises(TypeError, match=re.escape("`num_tasks` is expected to be an integer, but")):
        positive_integer("num_tasks", "3")  # type: ignore[arg-type]
