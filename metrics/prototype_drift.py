"""How far prototypes have moved from one version to another."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lit_fed.metrics.running_ratio import RunningRatio


def matched_distances(before: Tensor, after: Tensor) -> Tensor:
    """1 − the cosine of each prototype and the same one of another version, [P], in float64.

    Args:
        before: Prototypes, [P, d], of any length but 0.
        after: The same ones later, [P, d].

    Raises:
        ValueError: If the shapes differ, or are not [P, d].

    Example:
        >>> matched_distances(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
        tensor([1.], dtype=torch.float64)
    """
    if before.ndim != 2 or before.shape != after.shape:
        raise ValueError(
            f"`before` and `after` are expected to have one shape, [prototypes, width], but got {list(before.shape)} "
            f"and {list(after.shape)}"
        )
    return 1 - torch.cosine_similarity(before.double(), after.double(), dim=-1)


class PrototypeDrift(RunningRatio):
    """1 − the mean cosine of prototypes of one version and the same ones of another, from 0 to 2; lower is stabler.

    Several updates, such as of several rounds, are averaged over all prototypes.

    NaN (nothing to tell): no prototype yet.

    Args:
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> metric = PrototypeDrift()
        >>> metric.update(torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        >>> metric.compute()
        tensor(0.5000)
    """

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 2.0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(scale=1.0, **kwargs)

    def update(self, before: Tensor, after: Tensor) -> None:
        """Adds prototypes of two versions.

        Args:
            before: Prototypes, [P, d].
            after: The same ones later, [P, d].

        Raises:
            ValueError: If the shapes differ, or are not [P, d].
        """
        distances = matched_distances(before, after)
        self.add(distances.sum(), len(distances))
