"""How many inputs lie within the margin of some prototype."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lit_fed.metrics.running_ratio import RunningRatio


def within_margin(similarities: Tensor, margin: float) -> Tensor:
    """Which inputs have a prototype within a cosine distance, [B], bool.

    Args:
        similarities: Cosines of inputs and prototypes, [B, P].
        margin: m, a cosine distance in [0, 2].

    Raises:
        ValueError: If ``similarities`` is not [B, P] with P > 0, or the margin is out of range.

    Example:
        >>> within_margin(torch.tensor([[0.9, -1.0], [0.5, 0.1]]), margin=0.3)
        tensor([ True, False])
    """
    if similarities.ndim != 2 or not similarities.shape[1]:
        raise ValueError(
            f"`similarities` is expected to have shape [inputs, prototypes], but got {list(similarities.shape)}"
        )
    if not 0 <= margin <= 2:
        raise ValueError(f"`margin` is expected to be from 0 to 2, but got {margin}")
    return 1 - similarities.amax(-1) <= margin


class PrototypeCoverage(RunningRatio):
    """Share of inputs that lie within a cosine distance m of some prototype, from 0 to 100.

    What is missing to 100 is the drift score of Bergman et al., "Robust Knowledge Distillation in Distributed LLMs
    Using Prototype-Constrained Semantic Defense Mechanisms", §4: the share of inputs beyond the margin.

    NaN (nothing to tell): no input yet.

    Args:
        margin: m in [0, 2].
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If the margin is out of range.

    Example:
        >>> metric = PrototypeCoverage(margin=0.3)
        >>> metric.update(torch.tensor([[0.9, -1.0], [0.5, 0.1]]))
        >>> metric.compute()
        tensor(50.)
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, margin: float = 0.3, **kwargs: Any) -> None:
        within_margin(torch.zeros(1, 1), margin)
        super().__init__((margin,), **kwargs)
        self.margin = margin

    def update(self, similarities: Tensor) -> None:
        """Adds inputs.

        Args:
            similarities: Their cosines with the prototypes, [B, P].

        Raises:
            ValueError: If it is not [B, P].
        """
        within = within_margin(similarities, self.margin)
        self.add(within.sum(), len(within))
