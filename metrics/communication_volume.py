"""How many bytes a federation sends."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_fed.metrics.arguments import positive_integer


def communication_volume(
    up: Tensor, down: Tensor, rounds: Tensor, reference: int | None = None
) -> dict[str, Tensor]:
    """Totals, the mean a round, and what it is relative to a reference.

    Args:
        up: Bytes from clients to the server, an int64 scalar.
        down: Bytes from the server to clients, an int64 scalar.
        rounds: In how many rounds, an int64 scalar.
        reference: Bytes a round, both ways, of what it is compared with.

    Returns:
        Scalars: ``up``, ``down`` and ``total`` in bytes (int64); ``per_round``, the total in bytes
        a round; with a reference, ``ratio``, ``per_round`` over it: 1 for the same volume. Without
        rounds, ``per_round`` and ``ratio`` are NaN.

    Example:
        >>> volume = communication_volume(*torch.tensor([600, 200, 2]), reference=1600)
        >>> {name: value.item() for name, value in volume.items()}
        {'up': 600, 'down': 200, 'total': 800, 'per_round': 400.0, 'ratio': 0.25}
    """
    total = up + down
    volume = {"up": up, "down": down, "total": total, "per_round": total / rounds}
    if reference is not None:
        volume["ratio"] = volume["per_round"] / reference
    return volume


class CommunicationVolume(Metric):
    """Bytes sent up and down, in all and a round, and their ratio to a reference; lower is better.

    Each update is what one client, or several, sent and received in one round: give it the
    ``nbytes`` of the payloads, in which strings count as UTF-8. Rounds run from the first to the
    last one seen since ``reset``, so that clients of one round, on one or several processes, do not
    count as more rounds, and one in which nothing was sent still counts.

    Before the first update, the bytes are 0, and ``per_round`` and ``ratio`` are NaN.

    Args:
        reference: Bytes a round, both ways, of the method compared with.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Returns of ``compute``:
        A dict of scalars: ``up``, ``down``, ``total`` in bytes (int64, exact), ``per_round`` in
        bytes a round, and with a reference ``ratio``, 1 for the same volume.

    Raises:
        TypeError: If ``reference`` is no integer.
        ValueError: If ``reference`` is below 1.

    Example:
        >>> volume = CommunicationVolume(reference=1600)
        >>> volume.update(up=200, down=100, round=0)
        >>> volume.update(up=200, down=100, round=0)
        >>> volume.update(up=200, down=0, round=1)
        >>> {name: value.item() for name, value in volume.compute().items()}
        {'up': 600, 'down': 200, 'total': 800, 'per_round': 400.0, 'ratio': 0.25}
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False
    plot_lower_bound = 0.0
    plot = Metric._plot

    up: Tensor
    down: Tensor
    first_round: Tensor
    last_round: Tensor

    def __init__(self, reference: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reference = None if reference is None else positive_integer("reference", reference)
        for state in ("up", "down"):
            self.add_state(state, torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("first_round", torch.tensor(torch.iinfo(torch.int64).max), "min")
        self.add_state("last_round", torch.tensor(-1), "max")

    def update(self, up: int, down: int, round: int) -> None:
        """Adds what was sent.

        Args:
            up: Bytes from clients to the server.
            down: Bytes from the server to clients.
            round: The round, from 0.

        Raises:
            TypeError: If an argument is no integer.
            ValueError: If an argument is negative.
        """
        number = positive_integer("round", round, least=0)
        sent, received = (
            positive_integer(name, value, least=0) for name, value in (("up", up), ("down", down))
        )
        self.up = self.up + sent
        self.down = self.down + received
        self.first_round = self.first_round.clamp(max=number)
        self.last_round = self.last_round.clamp(min=number)

    def compute(self) -> dict[str, Tensor]:
        """The volumes by name, scalars."""
        seen = self.last_round >= 0
        rounds = torch.where(seen, self.last_round - self.first_round + 1, 0)
        return communication_volume(self.up, self.down, rounds, self.reference)
