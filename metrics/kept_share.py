"""How many rows a gate keeps: of all, of each client and of each class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_fed.metrics.arguments import index_within, positive_integer
from lit_fed.metrics.running_sums import RunningSums


def kept_shares(kept: Tensor, total: Tensor) -> dict[str, Tensor]:
    """The share of rows that are kept, of all, of each client and of each class.

    Args:
        kept: How many are kept, [K, C].
        total: How many there are, [K, C].

    Returns:
        ``all``, ``client/<k>`` and ``class/<c>``, scalars in [0, 1]; NaN where there are no rows.

    Raises:
        ValueError: If the shapes differ, or are not [K, C].

    Example:
        >>> told = kept_shares(torch.tensor([[3.0, 0.0]]), torch.tensor([[3.0, 1.0]]))
        >>> {name: value.item() for name, value in told.items()}
        {'all': 0.75, 'client/0': 0.75, 'class/0': 1.0, 'class/1': 0.0}
    """
    if kept.ndim != 2 or kept.shape != total.shape:
        raise ValueError(
            f"`kept` and `total` are expected to have one shape, [clients, classes], but got {list(kept.shape)} and "
            f"{list(total.shape)}"
        )
    clients = kept.sum(1) / total.sum(1)
    classes = kept.sum(0) / total.sum(0)
    return {
        "all": kept.sum() / total.sum(),
        **{f"client/{k}": share for k, share in enumerate(clients)},
        **{f"class/{c}": share for c, share in enumerate(classes)},
    }


class KeptShare(RunningSums):
    """Share of rows that a gate keeps, from 0 to 100: of all, of each client and of each class.

    NaN (nothing to tell): no row of that kind yet.

    Args:
        num_clients: K.
        num_classes: C.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Returns of ``compute``:
        A dict of scalars: ``all``, ``client/<k>`` and ``class/<c>``.

    Raises:
        TypeError: If a number is no integer.
        ValueError: If one is below 1.

    Example:
        >>> metric = KeptShare(num_clients=1, num_classes=2)
        >>> metric.update(torch.tensor([True, True, False]), torch.tensor([0, 0, 1]), client=0)
        >>> {name: round(value.item(), 1) for name, value in metric.compute().items()}
        {'all': 66.7, 'client/0': 66.7, 'class/0': 100.0, 'class/1': 0.0}
    """

    is_differentiable = False
    # Of poisoned rows fewer are better, of clean ones more.
    higher_is_better = None
    full_state_update = False
    plot = Metric._plot

    kept: Tensor
    total: Tensor

    def __init__(self, num_clients: int, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_clients = positive_integer("num_clients", num_clients)
        self.num_classes = positive_integer("num_classes", num_classes)
        for state in ("kept", "total"):
            self.add_sum(state, num_clients, num_classes)

    def update(self, kept: Tensor, target: Tensor, client: int) -> None:
        """Adds rows of one client.

        Args:
            kept: Which are kept, [B], bool or 0 and 1.
            target: The labels that they came with, [B].
            client: The client's index, from 0.

        Raises:
            TypeError: If ``client`` is no integer.
            ValueError: If there are not as many labels as rows, or a label or the client is none.
        """
        if kept.shape != target.shape or kept.ndim != 1:
            raise ValueError(
                f"`kept` and `target` are expected to have one shape, [rows], but got {list(kept.shape)} and "
                f"{list(target.shape)}"
            )
        if len(target) and not 0 <= int(target.min()) <= int(target.max()) < self.num_classes:
            raise ValueError(
                f"`target` is expected to have classes from 0 to {self.num_classes - 1}, but has those from "
                f"{int(target.min())} to {int(target.max())}"
            )
        place = torch.zeros_like(self.total)
        index = index_within("client", client, 0, self.num_clients)
        rows = torch.stack(
            [
                torch.bincount(target[kept.bool()], minlength=self.num_classes),
                torch.bincount(target, minlength=self.num_classes),
            ]
        ).to(place)
        place[index] = 1
        self.kept = self.kept + place * rows[0]
        self.total = self.total + place * rows[1]

    def compute(self) -> dict[str, Tensor]:
        """The shares by name, scalars."""
        told = kept_shares(self.kept, self.total)
        return {name: (100 * value).to(torch.get_default_dtype()) for name, value in told.items()}
