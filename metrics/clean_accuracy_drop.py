"""What an attack or a defence costs where nothing is attacked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lit_fed.metrics.arguments import weighted_sum
from lit_fed.metrics.running_ratio import RunningRatio


def clean_accuracy_drop(clean: Tensor | float, now: Tensor | float) -> Tensor:
    """Points of accuracy on clean rows that are lost, in the unit of both; negative where some are won.

    Args:
        clean: Accuracy of the model that was neither attacked nor defended.
        now: Accuracy of the model in question.

    Example:
        >>> clean_accuracy_drop(93.5, 92.0)
        tensor(1.5000)
    """
    return torch.as_tensor(clean) - torch.as_tensor(now)


class CleanAccuracyDrop(RunningRatio):
    """Points of accuracy on clean rows that are lost against a reference, from −100 to 100; lower is better.

    NaN (nothing to tell): no row yet.

    Args:
        reference: Accuracy of the model that was neither attacked nor defended, on the same rows, from 0 to 100.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If ``reference`` is out of range.

    Example:
        >>> metric = CleanAccuracyDrop(reference=90.0)
        >>> metric.update(torch.tensor([True, True, True, False]))
        >>> metric.compute()
        tensor(15.)
    """

    higher_is_better = False
    plot_lower_bound = -100.0
    plot_upper_bound = 100.0

    def __init__(self, reference: float, **kwargs: Any) -> None:
        if not 0 <= reference <= 100:
            raise ValueError(f"`reference` is expected to be from 0 to 100, but got {reference!r}")
        self.reference = float(reference)
        super().__init__([self.reference], **kwargs)

    def update(self, value: Tensor | float, weight: Tensor | float = 1.0) -> None:
        """Adds rows without a trigger.

        Args:
            value: What was right (bool, [N]; a row that a defence refuses is not), or an accuracy in [0, 1] over
                ``weight`` rows.
            weight: How many rows each entry of ``value`` stands for.

        Raises:
            ValueError: If a value is out of range, or a weight is negative.
        """
        right, total = weighted_sum(value, weight, 0.0, 1.0, self.device)
        self.add(right, total)

    def compute(self) -> Tensor:
        """The reference less the accuracy, a scalar."""
        return clean_accuracy_drop(self.reference, self.ratio())
