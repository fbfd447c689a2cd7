"""What a module logs while a loop runs, without waiting for the device or for other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final, Literal, get_args

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from lit_fed.metrics.running_sums import sum_dtype

Reduction = Literal["mean", "sum", "max", "min"]
"""What is made of the values of one name."""

_REDUCED: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "sum": torch.add,
    "max": torch.maximum,
    "min": torch.minimum,
}


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
    """Collects ``self.log`` calls of one training or evaluation loop and gives their means, or what else is asked for.

    Values stay on their device until :meth:`compute`, so logging in every step costs no
    synchronisation. Sums are kept in float64 where the device has it.

    Example:
        >>> log = MetricAverager()
        >>> log.add("val/loss", 1.0, weight=3)
        >>> log.add("val/loss", 2.0, weight=1)
        >>> log.add("val/rows", 3, reduce="sum")
        >>> log.compute()
        {'val/loss': 1.25, 'val/rows': 3.0}

    Attributes:
        batch_size: Rows of the batch under way, which weigh a value of which nothing else is said; 1 between batches.
    """

    def __init__(self) -> None:
        self.batch_size = 1
        self._sums: dict[str, tuple[Tensor, float]] = {}
        self._others: dict[str, Tensor] = {}
        self._metrics: dict[str, Metric] = {}

    @contextmanager
    def during(self, batch: Any) -> Iterator[None]:
        """Within the block values are of a batch, and count by its rows where they do not say otherwise.

        Args:
            batch: The batch.
        """
        self.batch_size = rows_in(batch)
        try:
            yield
        finally:
            self.batch_size = 1

    def add(
        self, name: str, value: Any, weight: float | None = None, reduce: Reduction = "mean"
    ) -> None:
        """Add one value.

        Args:
            name: Name of the metric.
            value: A number, a scalar tensor, or a torchmetrics metric, which is computed and reset at the end.
            weight: How many examples the value is the mean of. None: those of the batch under way.
            reduce: What is made of all values of this name.

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
        tensor = tensor.reshape(()).to(sum_dtype(tensor.device))
        if reduce != "mean":
            before = self._others.get(name)
            self._others[name] = tensor if before is None else _REDUCED[reduce](before, tensor)
            return
        weight = self.batch_size if weight is None else weight
        if isinstance(weight, int | float) and not weight:
            return  # the mean of nothing, which may be no number
        tensor = tensor * weight
        if name in self._sums:
            total, count = self._sums[name]
            self._sums[name] = (total + tensor, count + weight)
        else:
            self._sums[name] = (tensor, weight)

    def compute(self, processes_share: bool = False) -> dict[str, float]:
        """The weighted means, sums and extremes by name, as Python numbers; metrics among them are reset.

        Args:
            processes_share: Whether all processes have logged parts of the same, so that metrics are computed over
                them. Else they are of this process alone.
        """
        means = {name: float(total) / count for name, (total, count) in self._sums.items() if count}
        means |= {name: float(value) for name, value in self._others.items()}
        metrics = self._metrics.values()
        with nullcontext() if processes_share else of_this_process(metrics):
            for name, metric in self._metrics.items():
                means[name] = float(metric.compute())
                metric.reset()
        return means


def reduction_of(reduce_fx: Any) -> Reduction:
    """What Lightning's ``reduce_fx`` of ``self.log`` asks for.

    Args:
        reduce_fx: A word, or torch's function of that name.

    Raises:
        ValueError: If it is something else, as in Lightning.

    Example:
        >>> reduction_of("sum"), reduction_of(torch.mean)
        ('sum', 'mean')
    """
    for word in get_args(Reduction):
        if reduce_fx == word or reduce_fx is getattr(torch, word):
            found: Reduction = word
            return found
    raise ValueError(
        f"`reduce_fx` of log is expected to be mean, sum, max or min, but got {reduce_fx!r:.80}"
    )


def rows_in(batch: Any) -> int:
    """How many rows a batch has: the length of its first tensor with one, as Lightning takes it; 1 where it has none.

    Args:
        batch: The batch.

    Example:
        >>> rows_in({"input_ids": torch.zeros(3, 7), "labels": torch.zeros(3)})
        3
    """
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    parts = batch.values() if isinstance(batch, Mapping) else ()
    return next((len(part) for part in parts if isinstance(part, Tensor) and part.ndim), 1)


def reset_metrics(module: nn.Module) -> None:
    """Let no torchmetrics metric of a module keep what it has counted.

    Args:
        module: The module.
    """
    for part in module.modules():
        if isinstance(part, Metric):
            part.reset()
