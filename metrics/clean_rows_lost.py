"""How many clean rows a gate drops."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lit_fed.metrics.running_ratio import RunningRatio


def lost_rows(kept: Tensor, clean: Tensor) -> tuple[int, int]:
    """How many clean rows are dropped, and how many there are.

    Args:
        kept: Which rows are kept, [B], bool.
        clean: Which are clean, [B], bool.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> import torch
        >>> lost_rows(torch.tensor([True, False, False]), torch.tensor([True, True, False]))
        (1, 2)
    """
    if kept.shape != clean.shape:
        raise ValueError(
            f"`clean` is expected to have the shape of `kept`, {list(kept.shape)}, but got {list(clean.shape)}"
        )
    return int((clean.bool() & ~kept.bool()).sum()), int(clean.bool().sum())


class CleanRowsLost(RunningRatio):
    """Share of clean rows that a gate drops, its false alarms, from 0 to 100; lower is better.

    It needs to be known which rows are clean, as in a trial whose attack is one's own.

    NaN (nothing to tell): no clean row yet.

    Args:
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = CleanRowsLost()
        >>> metric.update(torch.tensor([True, False, False]), torch.tensor([True, True, False]))
        >>> metric.compute()
        tensor(50.)
    """

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def update(self, kept: Tensor, clean: Tensor) -> None:
        """Adds rows.

        Args:
            kept: Which are kept, [B], bool.
            clean: Which are clean, [B], bool.

        Raises:
            ValueError: If the shapes differ.
        """
        self.add(*lost_rows(kept, clean))
