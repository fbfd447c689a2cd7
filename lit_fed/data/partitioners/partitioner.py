"""The base class of partitioners."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from datasets import Dataset

Positions = npt.NDArray[np.int64]

_DRAWS = 1000
_CLIENTS = 10


class Partitioner(ABC):
    """How rows are divided among clients."""

    @abstractmethod
    def __call__(self, rows: Dataset, num_clients: int, seed: int) -> list[list[int]]:
        """Divide the rows.

        Args:
            rows: The training rows, at least as many as there are clients.
            num_clients: How many clients there are.
            seed: The same seed gives the same partition.

        Returns:
            For each client the positions of its rows, disjoint, in ascending order.

        Raises:
            ValueError: If the partition cannot be made.
        """

    def default_num_clients(self, rows: Dataset) -> int:
        """How many clients there are where ``data.num_clients`` is null: ten.

        Args:
            rows: The training rows.
        """
        return _CLIENTS

    def client_names(self, rows: Dataset, parts: Sequence[Sequence[int]]) -> list[str] | None:
        """What the clients are called. None: ``client-0`` and so on.

        Args:
            rows: The training rows.
            parts: The positions of each client's rows, as the partitioner has divided them.
        """
        return None


def draw_until(
    draw: Callable[[], list[Positions]],
    num_rows: int,
    num_clients: int,
    min_samples: int,
    remedy: str,
) -> list[list[int]]:
    """Repeat a random partition until every client has enough rows.

    Args:
        draw: Draws a partition.
        num_rows: How many rows there are.
        num_clients: How many clients there are.
        min_samples: The fewest rows of a client.
        remedy: What else the user may change, for the message.

    Returns:
        The first partition drawn in which every client has `min_samples` rows, each part sorted.

    Raises:
        ValueError: If there are too few rows, or no draw of 1000 is good.
    """
    if num_rows < num_clients * min_samples:
        raise ValueError(
            f"`data.partitioner.min_samples` is {min_samples}, but {num_rows} rows for "
            f"{num_clients} clients cannot give each so many"
        )
    smallest = 0
    for _ in range(_DRAWS):
        parts = draw()
        fewest = min(map(len, parts))
        if fewest >= min_samples:
            return [np.sort(part).tolist() for part in parts]
        smallest = max(smallest, fewest)
    raise ValueError(
        f"`data.partitioner.min_samples` is {min_samples}, but in {_DRAWS} draws for {num_clients} "
        f"clients the smallest client had at most {smallest} rows: lower it or `data.num_clients`, "
        f"or {remedy}"
    )


def concatenated(parts: Sequence[Positions]) -> Positions:
    """All positions of several parts, of which there may be none."""
    return np.concatenate([np.empty(0, np.int64), *parts])
