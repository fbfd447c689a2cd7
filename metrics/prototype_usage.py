"""How evenly prototypes are used, and how many are not used at all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_fed.metrics.arguments import positive_integer, widened
from lit_fed.metrics.running_sums import RunningSums


def usage_entropy(counts: Tensor) -> Tensor:
    r"""The entropy of the use of prototypes, of the largest possible one.

    .. math:: -\sum_j p_j \log p_j \, / \, \log P, \qquad p_j = n_j / \sum_i n_i

    Args:
        counts: n, how many inputs each prototype is assigned, [P].

    Returns:
        A scalar in [0, 1]; 1 where all are used alike, 0 where one is used alone, NaN without inputs, and 1 where
        there is one prototype.

    Raises:
        ValueError: If ``counts`` is not [P] with P > 0.

    Example:
        >>> usage_entropy(torch.tensor([2.0, 2.0, 0.0, 0.0]))
        tensor(0.5000)
    """
    counts = _require_counts(counts)
    total = counts.sum()
    if not total:
        return counts.new_tensor(torch.nan)
    if len(counts) == 1:
        return torch.ones_like(total)
    shares = counts / total
    nats: Tensor = -torch.special.xlogy(shares, shares).sum()
    return nats / torch.as_tensor(float(len(counts))).log().to(nats)


def dead_share(counts: Tensor) -> Tensor:
    """The share of prototypes that no input is assigned to.

    Args:
        counts: How many inputs each prototype is assigned, [P].

    Returns:
        A scalar in [0, 1]; NaN without inputs.

    Raises:
        ValueError: If ``counts`` is not [P] with P > 0.

    Example:
        >>> dead_share(torch.tensor([2.0, 2.0, 0.0, 0.0]))
        tensor(0.5000)
    """
    counts = _require_counts(counts)
    dead = (counts == 0).to(counts.dtype).mean()
    return torch.where(counts.sum() > 0, dead, torch.nan)


class PrototypeUsage(RunningSums):
    """How prototypes are used: entropy of their use and share of dead ones, each from 0 to 100.

    NaN (nothing to tell): no input yet.

    Args:
        num_prototypes: P.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Returns of ``compute``:
        A dict of scalars: ``entropy``, of the largest possible one (:func:`usage_entropy`), and ``dead``, the share of
        prototypes without an input (:func:`dead_share`).

    Raises:
        TypeError: If ``num_prototypes`` is no integer.
        ValueError: If it is below 1.

    Example:
        >>> metric = PrototypeUsage(num_prototypes=4)
        >>> metric.update(torch.tensor([0, 0, 1, 1]))
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'entropy': 50.0, 'dead': 50.0}
    """

    is_differentiable = False
    # The entries differ in this: more entropy is better, more dead prototypes are not.
    higher_is_better = None
    full_state_update = False
    plot = Metric._plot

    counts: Tensor

    def __init__(self, num_prototypes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_prototypes = positive_integer("num_prototypes", num_prototypes)
        self.add_sum("counts", num_prototypes)

    def update(self, assigned: Tensor) -> None:
        """Adds inputs.

        Args:
            assigned: The place of each input's prototype, [B].

        Raises:
            ValueError: If a place is none.
        """
        self.counts = self.counts + counted(assigned, self.num_prototypes).to(self.counts)

    def compute(self) -> dict[str, Tensor]:
        """The two by name, scalars."""
        told = {"entropy": usage_entropy(self.counts), "dead": dead_share(self.counts)}
        return {name: (100 * value).to(torch.get_default_dtype()) for name, value in told.items()}


def counted(assigned: Tensor, count: int) -> Tensor:
    """How many inputs each prototype is assigned, [P].

    Args:
        assigned: Their places, [B].
        count: P.

    Raises:
        ValueError: If a place is none.

    Example:
        >>> counted(torch.tensor([2, 0, 2]), 3)
        tensor([1, 0, 2])
    """
    if len(assigned) and not 0 <= int(assigned.min()) <= int(assigned.max()) < count:
        raise ValueError(
            f"`assigned` is expected to have places from 0 to {count - 1}, but has those from {int(assigned.min())} to "
            f"{int(assigned.max())}"
        )
    return torch.bincount(assigned.flatten(), minlength=count)


def _require_counts(counts: Tensor) -> Tensor:
    if counts.ndim != 1 or not len(counts):
        raise ValueError(
            f"`counts` is expected to have shape [prototypes], but got {list(counts.shape)}"
        )
    return widened(counts)
