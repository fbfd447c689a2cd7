"""Which clients take part in a round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np


class ClientSampler(ABC):
    """Chooses a round's clients, the ``sampler`` argument of the trainer.

    A sampler draws from the (seed, round) it is given, so the same run samples the same clients
    after a resume. One that learns from what it saw keeps that in :meth:`state_dict`.
    """

    @abstractmethod
    def __call__(self, sizes: Sequence[int], count: int, seed: int, round: int) -> list[int]:
        """Choose clients.

        Args:
            sizes: Rows of every client; one without any is not available.
            count: How many to choose, between 1 and the number of available clients.
            seed: The run's seed.
            round: The round, counted from 0.

        Returns:
            ``count`` different positions of available clients in ``sizes``, in the order in which
            they train.
        """

    def state_dict(self) -> dict[str, Any]:
        """What has to be kept in a checkpoint, as JSON takes it. Default: nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        return None


class UniformSampler(ClientSampler):
    """Every client is equally likely, without replacement.

    Example:
        >>> UniformSampler()([5, 5, 5, 5], count=2, seed=0, round=0)
        [2, 3]
    """

    def __call__(self, sizes: Sequence[int], count: int, seed: int, round: int) -> list[int]:
        """Draw ``count`` clients; see :class:`ClientSampler`."""
        available = np.flatnonzero(sizes)
        chosen = np.random.default_rng([seed, round]).choice(available, count, replace=False)
        return sorted(chosen.tolist())


class SizeSampler(ClientSampler):
    """Clients are drawn without replacement with probabilities proportional to their rows.

    Combine it with ``weights: uniform``, else large clients count twice.
    """

    def __call__(self, sizes: Sequence[int], count: int, seed: int, round: int) -> list[int]:
        """Draw ``count`` clients; see :class:`ClientSampler`."""
        share = np.asarray(sizes, dtype=float) / sum(sizes)
        chosen = np.random.default_rng([seed, round]).choice(
            len(sizes), count, replace=False, p=share
        )
        return sorted(chosen.tolist())


class FixedOrderSampler(ClientSampler):
    """Clients take turns in a fixed order.

    Args:
        order: Positions of the clients in their order. None: 0, 1, 2, …

    Example:
        >>> sampler = FixedOrderSampler()
        >>> [sampler([5, 5, 5], count=2, seed=0, round=r) for r in range(3)]
        [[0, 1], [2, 0], [1, 2]]
    """

    def __init__(self, order: list[int] | None = None) -> None:
        self.order = order

    def __call__(self, sizes: Sequence[int], count: int, seed: int, round: int) -> list[int]:
        """The next ``count`` clients; see :class:`ClientSampler`.

        Raises:
            ValueError: If ``order`` names a client that there is not, or one twice.
        """
        order = list(range(len(sizes))) if self.order is None else self.order
        if (
            len(set(order)) != len(order)
            or not set(order) <= set(range(len(sizes)))
            or sum(sizes[client] > 0 for client in order) < count
        ):
            raise ValueError(
                f"`trainer.sampler.order` is expected to name at least {count} different clients of "
                f"0 … {len(sizes) - 1}, but got {order}"
            )
        order = [client for client in order if sizes[client]]
        return [order[(round * count + i) % len(order)] for i in range(count)]


def clients_per_round(setting: int | float, num_clients: int) -> int:
    """How many clients a round samples.

    Args:
        setting: An integer is a count, a float a fraction of the clients (1.0: all; at least one).
        num_clients: Clients there are.

    Raises:
        ValueError: If the count is not between 1 and ``num_clients`` or the fraction not in (0, 1].

    Example:
        >>> clients_per_round(0.25, 10), clients_per_round(4, 10), clients_per_round(1.0, 10)
        (2, 4, 10)
    """
    if isinstance(setting, float):
        if not 0 < setting <= 1:
            raise ValueError(
                f"`trainer.clients_per_round` as a fraction is expected in (0, 1], but got {setting}"
            )
        return max(1, round(setting * num_clients))
    if not 1 <= setting <= num_clients:
        raise ValueError(
            f"`trainer.clients_per_round` is expected between 1 and the {num_clients} clients there are, "
            f"but got {setting}"
        )
    return setting
