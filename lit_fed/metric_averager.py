"""What a module logs while a loop runs, without waiting for the device or for other processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_fed.metrics.running_sums import sum_dtype


@contextmanager
def of_this_process(metrics: Iterable[Any]) -> Iterator[None]:
    """Within the block torchmetrics are computed of what this process has seen.

    Else they would wait for the other processes of a run, which train other clients and need not compute the same
    metric, or mix those clients' numbers with this one's. Where all processes evaluate the same rows, they would
    count each row several times.

    Args:
        metrics: The metrics; whatever is none is left alone.

    Example:
        >>> from torchmetrics import MeanMetric
        >>> metric = MeanMetric()
        >>> with of_this_process([metric]):
        ...     metric.distributed_available_fn()
        False
    """
    own = {id(metric): metric for metric in metrics if isinstance(metric, Metric)}
    before = {key: metric.distributed_available_fn for key, metric in own.items()}
    for metric in own.values():
        metric.distributed_available_fn = _alone
    try:
        yield
    finally:
        for key, metric in own.items():
            metric.distributed_available_fn = before[key]


def _alone() -> bool:
    return False


class MetricAverager:
    """Collects ``self.log`` calls of one training or evaluation loop and gives their means.

    Values stay on their device until :meth:`compute`, so logging in every step costs no
    synchronisation. Sums are kept in float64 where the device has it.

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
        given = isinstance(value, Tensor)
        tensor = torch.as_tensor(value, dtype=None if given else torch.float64).detach()
        if tensor.numel() != 1:
            raise ValueError(
                f"logged value {name!r} is expected to be a scalar, but has shape {list(tensor.shape)}"
            )
        tensor = tensor.reshape(()).to(sum_dtype(tensor.device)) * weight
        if name in self._sums:
            total, count = self._sums[name]
            self._sums[name] = (total + tensor, count + weight)
        else:
            self._sums[name] = (tensor, weight)

    def compute(self, processes_share: bool = False) -> dict[str, float]:
        """The weighted means by name, as Python numbers; metrics among them are reset.

        Args:
            processes_share: Whether all processes have logged parts of the same, so that metrics are computed over
                them. Else they are of this process alone.
        """
        means = {name: float(total) / count for name, (total, count) in self._sums.items() if count}
        metrics = self._metrics.values()
        with nullcontext() if processes_share else of_this_process(metrics):
            for name, metric in self._metrics.items():
                means[name] = float(metric.compute())
                metric.reset()
        return means
