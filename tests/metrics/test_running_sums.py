"""Sums over as many tokens as an evaluation of a language model has."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lit_fed.metrics import ClientFairness, GeneralizationUnderShift, TaskMatrix
from lit_fed.metrics.running_sums import RunningSums

EACH, CALLS = 1_000_003, 40  # 4 · 10⁷ tokens, where float32 counts in steps of 4


def _fairness(correct: int) -> float:
    metric = ClientFairness(1)
    for _ in range(CALLS):
        metric.update(correct / EACH, client=0, weight=EACH)
    assert metric.total.item() == CALLS * EACH
    return metric.compute()["mean"].item() / 100


def _shift(correct: int) -> float:
    metric = GeneralizationUnderShift(["typos"])
    for _ in range(CALLS):
        metric.update(correct / EACH, shift="typos", weight=EACH)
    assert metric.total[0].item() == CALLS * EACH
    return metric.compute().item() / 100


def _matrix(correct: int) -> float:
    metric = TaskMatrix(1)
    for _ in range(CALLS):
        metric.update(correct / EACH, after=0, task=0, weight=EACH)
    assert metric.total[1, 0].item() == CALLS * EACH
    return metric.compute().item()


@pytest.mark.parametrize("accuracy_of", [_fairness, _shift, _matrix])
def test_many_tokens_are_counted_one_by_one(accuracy_of: Callable[[int], float]) -> None:
    assert accuracy_of(617_283) == pytest.approx(617_283 / EACH, rel=1e-7)


class OneSum(RunningSums):
    sum: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_sum("sum", 2)

    def update(self, value: float) -> None:
        self.sum = self.sum + value

    def compute(self) -> torch.Tensor:
        return self.sum


def test_a_device_without_doubles_gets_floats() -> None:
    """As MPS: it refuses to take a tensor in float64."""

    def without_doubles(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return tensor.clone()

    metric = OneSum()
    metric.update(2.0)
    metric._apply(without_doubles)
    assert metric.sum.dtype == metric._defaults["sum"].dtype == torch.float32
    metric.update(1.0)
    assert metric.compute().tolist() == [3.0, 3.0]
    with pytest.raises(TypeError, match="something else"):
        OneSum()._apply(_refuses)


def _refuses(tensor: torch.Tensor) -> torch.Tensor:
    raise TypeError("something else")


def test_the_dtype_of_a_model_is_not_that_of_its_sums() -> None:
    metric = OneSum()
    for converted in (metric.half(), metric.float(), metric.bfloat16()):
        assert converted.sum.dtype == torch.float64
