"""What a module logs while a loop runs, without waiting for the device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class MetricAverager:
    """Collects ``self.log`` calls of one training or evaluation loop and gives their means.

    Values stay on their device until :meth:`compute`, so logging in every step costs no
    synchronisation.

    Example:
        >>> log = MetricAverager()
        >>> log.add("val/loss", 1.0, weight=3)
        >>> log.add("val/loss", 2.0, weight=1)
        >>> log.compute()
        {'val/loss': 1.25}
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[Tensor, float]] = {}
        self._metrics: dict[str, Metric] = {}

    def add(self, name: str, value: Any, weight: float = 1.0) -> None:
        """Add one value.

        Args:
            name: Name of the metric.
            value: A number, a scalar tensor, or a torchmetrics metric, which is computed and reset at the end.
            weight: How many examples the value is the mean of.

        Raises:
            ValueError: If ``value`` is a tensor with more than one element.
        """
        if isinstance(value, Metric):
            self._metrics[name] = value
            return
        tensor = torch.as_tensor(value).detach()
        if tensor.numel() != 1:
            raise ValueError(
                f"logged value {name!r} is expected to be a scalar, but has shape {list(tensor.shape)}"
            )
        tensor = tensor.reshape(()).to(torch.float32) * weight
        if name in self._sums:
            total, count = self._sums[name]
            self._sums[name] = (total + tensor, count + weight)
        else:
            self._sums[name] = (tensor, weight)

    def compute(self) -> dict[str, float]:
        """The weighted means by name, as Python numbers; metrics among them are reset."""
        means = {name: float(total) / count for name, (total, count) in self._sums.items() if count}
        for name, metric in self._metrics.items():
            means[name] = float(metric.compute())
            metric.reset()
        return means
