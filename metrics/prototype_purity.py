"""How far the inputs of a prototype are of one class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_fed.metrics.arguments import positive_integer
from lit_fed.metrics.prototype_usage import counted
from lit_fed.metrics.running_sums import RunningSums


def class_purity(counts: Tensor) -> Tensor:
    """The share of inputs whose class is the most frequent one of their prototype.

    The purity of a clustering, Manning et al., "Introduction to Information Retrieval", 2008, §16.3.

    Args:
        counts: How many inputs of each class each prototype is assigned, [P, C].

    Returns:
        A scalar in [0, 1]; NaN without inputs.

    Raises:
        ValueError: If ``counts`` is not [P, C].

    Example:
        >>> class_purity(torch.tensor([[3.0, 1.0], [0.0, 4.0]]))
        tensor(0.8750)
    """
    if counts.ndim != 2:
        raise ValueError(
            f"`counts` is expected to have shape [prototypes, classes], but got {list(counts.shape)}"
        )
    total = counts.sum()
    return torch.where(total > 0, counts.amax(-1).sum() / total.clamp(min=1), torch.nan)


class PrototypePurity(RunningSums):
    """Share of inputs whose class is the most frequent one of their prototype, from 0 to 100; higher is better.

    NaN (nothing to tell): no input yet.

    Args:
        num_prototypes: P.
        num_classes: C.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If one is below 1.

    Example:
        >>> metric = PrototypePurity(num_prototypes=2, num_classes=2)
        >>> metric.update(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1]))
        >>> metric.compute()
        tensor(75.)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0
    plot = Metric._plot

    counts: Tensor

    def __init__(self, num_prototypes: int, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_prototypes = positive_integer("num_prototypes", num_prototypes)
        self.num_classes = positive_integer("num_classes", num_classes)
        self.add_sum("counts", num_prototypes, num_classes)

    def update(self, assigned: Tensor, target: Tensor) -> None:
        """Adds inputs.

        Args:
            assigned: The place of each input's prototype, [B].
            target: Their classes, [B].

        Raises:
            ValueError: If there are not as many, or a place or class is none.
        """
        if assigned.shape != target.shape:
            raise ValueError(
                f"`target` is expected to have the shape of `assigned`, {list(assigned.shape)}, but got "
                f"{list(target.shape)}"
            )
        counted(assigned, self.num_prototypes)
        if len(target) and not 0 <= int(target.min()) <= int(target.max()) < self.num_classes:
            raise ValueError(
                f"`target` is expected to have classes from 0 to {self.num_classes - 1}, but has those from "
                f"{int(target.min())} to {int(target.max())}"
            )
        places = assigned * self.num_classes + target
        found = torch.bincount(places, minlength=self.counts.numel())
        self.counts = self.counts + found.view_as(self.counts).to(self.counts)

    def compute(self) -> Tensor:
        """The purity, a scalar."""
        return (100 * class_purity(self.counts)).to(torch.get_default_dtype())
