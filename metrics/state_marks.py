"""Marks of a metric's settings in the names of its states, by which collections tell metrics apart."""

from __future__ import annotations

import hashlib
from typing import Final

import torch
from torchmetrics import Metric

MARK_BYTES: Final = 8


def settings_mark(metric: Metric, *settings: object) -> str:
    """A mark of a metric's class and settings.

    Args:
        metric: The metric.
        settings: All that its ``update`` depends on, of plain values.
    """
    text = repr((type(metric).__qualname__, *settings))
    return hashlib.blake2b(text.encode(), digest_size=MARK_BYTES).hexdigest()


def keep_apart(metric: Metric, *settings: object) -> None:
    """Give a metric a state whose name says what its ``update`` depends on, and which holds nothing.

    A :class:`torchmetrics.MetricCollection` lets metrics share their states whose states have the same names and are
    equal after the first update, whatever their settings. The other states keep their names, so that what was saved
    of them can be loaded.

    Args:
        metric: The metric.
        settings: All that its ``update`` depends on, of plain values.

    Example:
        >>> from torchmetrics import SumMetric
        >>> metric = SumMetric()
        >>> keep_apart(metric, "median")
        >>> list(metric.metric_state)
        ['sum_value', 'settings_...']
    """
    name = f"settings_{settings_mark(metric, *settings)}"
    metric.add_state(name, torch.tensor(0), dist_reduce_fx="sum")
