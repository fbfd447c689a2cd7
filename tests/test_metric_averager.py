from __future__ import annotations

import math

import pytest
import torch
from torchmetrics import MeanMetric

from lit_fed.metric_averager import MetricAverager, of_this_process


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
