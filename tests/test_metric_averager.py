from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torchmetrics import MeanMetric

from lit_fed.metric_averager import MetricAverager, of_this_process, reduction_of, rows_in


def test_many_tokens_do_not_drift() -> None:
    """3 · 10⁷ tokens in batches of 300, each with its own mean: float32 is off by more than 10⁻⁵."""
    averager, exact, wide = MetricAverager(), [], 0
    single = torch.zeros(())
    for batch in range(100_000):
        value = 2.0 + (batch % 7) / 9
        averager.add("val/loss", value, 300)
        exact.append(value * 300)
        single += value * 300
        wide += 300
    mean = math.fsum(exact) / wide
    assert abs(float(single) / wide - mean) > 1e-5
    assert averager.compute()["val/loss"] == pytest.approx(mean, rel=1e-12)


def test_metrics_are_put_back_as_they_were() -> None:
    metric = MeanMetric(distributed_available_fn=lambda: True)
    before = metric.distributed_available_fn
    with of_this_process([metric, torch.nn.Linear(1, 1)]):
        assert metric.distributed_available_fn() is False
    assert metric.distributed_available_fn is before


def test_a_value_counts_by_its_batch_where_it_does_not_say_otherwise() -> None:
    averager = MetricAverager()
    averager.add("rounds", 1.0)
    for rows, value in ((30, 1.0), (10, 5.0)):
        with averager.during({"input_ids": torch.zeros(rows, 7)}):
            averager.add("by_rows", value)
            averager.add("by_itself", value, 1)
            averager.add("of_nothing", math.nan, 0)
            averager.add("total", value, reduce="sum")
            averager.add("low", torch.tensor(value), reduce="min")
    averager.add("rounds", 2.0)
    assert averager.compute() == {
        "rounds": 1.5,
        "by_rows": 2.0,
        "by_itself": 3.0,
        "total": 6.0,
        "low": 1.0,
    }


@pytest.mark.parametrize(
    ("batch", "rows"),
    [
        ({"a": 3, "b": torch.zeros(()), "c": torch.zeros(4, 2)}, 4),
        (torch.zeros(5, 1), 5),
        (torch.zeros(()), 1),
        ([torch.zeros(5)], 1),
        ({}, 1),
    ],
)
def test_rows_of_a_batch(batch: Any, rows: int) -> None:
    assert rows_in(batch) == rows


def test_reductions_are_words_or_torchs_functions() -> None:
    assert [reduction_of(one) for one in ("mean", torch.max, "min", torch.sum)] == [
        "mean",
        "max",
        "min",
        "sum",
    ]
    with pytest.raises(ValueError, match="expected to be mean, sum, max or min, but got 'median'"):
        reduction_of("median")
