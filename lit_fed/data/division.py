"""Who gets which rows: validation, public set and clients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lit_fed.data.client_data import ClientData
from lit_fed.data.columns import select_rows
from lit_fed.data.partitioners import Partitioner
from lit_fed.data.partitioners.partitioner import Positions, concatenated

if TYPE_CHECKING:
    from datasets import Dataset

# Each purpose has its own stream of random numbers, so that changing one leaves the others as they
# are.
_VALIDATION, _PUBLIC, _CLIENTS, _CLIENT_VALIDATION = range(4)


@dataclass(frozen=True)
class Division:
    """A training table divided into disjoint parts.

    Attributes:
        clients: What the clients hold.
        pooled: All training rows of all clients.
        validation: Rows carved off for validation, if any.
        public: Rows carved off for the public set, if any.
    """

    clients: list[ClientData]
    pooled: Dataset
    validation: Dataset | None
    public: Dataset | None


def divide(
    rows: Dataset,
    partitioner: Partitioner,
    num_clients: int,
    validation_fraction: float,
    public_size: int,
    client_validation_fraction: float,
    seed: int,
) -> Division:
    """Divide a training table.

    Args:
        rows: The table.
        partitioner: How rows are divided among clients.
        num_clients: How many clients there are.
        validation_fraction: Part of all rows carved off for validation.
        public_size: Rows carved off for the public set.
        client_validation_fraction: Part of each client's rows that it holds out.
        seed: The same seed gives the same division.

    Raises:
        ValueError: If there are too few rows, or a client is left without.
    """
    num_rows = len(rows)
    left = np.arange(num_rows)
    validation, left = _carve(left, _share(num_rows, validation_fraction), [seed, _VALIDATION])
    if public_size > len(left):
        raise ValueError(
            f"`data.public_size` is {public_size}, but only {len(left)} of the {num_rows} rows of "
            f"data.train are left"
        )
    public, left = _carve(left, public_size, [seed, _PUBLIC])
    if len(left) < num_clients:
        raise ValueError(
            f"`data.num_clients` is {num_clients}, but only {len(left)} of the {num_rows} rows of "
            f"data.train are left for clients ({len(validation)} are for validation, {len(public)} "
            f"are public)"
        )
    # One whole number for the partitioner, whose interface is a seed.
    partition_seed = int(np.random.default_rng([seed, _CLIENTS]).integers(2**31))
    parts = partitioner(select_rows(rows, left), num_clients, partition_seed)
    _check_partition(parts, num_clients, len(left), partitioner)
    clients, trained = [], []
    width = len(str(num_clients - 1))
    for i, part in enumerate(parts):
        own = left[np.asarray(part, np.int64)]
        held = min(_share(len(own), client_validation_fraction), len(own) - 1)
        held_out, own = _carve(own, held, [seed, _CLIENT_VALIDATION, i])
        clients.append(
            ClientData(
                f"client-{i:0{width}d}", select_rows(rows, own), _rows_or_none(rows, held_out)
            )
        )
        trained.append(own)
    return Division(
        clients,
        select_rows(rows, np.sort(concatenated(trained))),
        _rows_or_none(rows, validation),
        _rows_or_none(rows, public),
    )


def _share(count: int, fraction: float) -> int:
    return max(1, round(count * fraction)) if fraction else 0


def _carve(positions: Positions, count: int, seed: list[int]) -> tuple[Positions, Positions]:
    """So many positions at random, and the others, both in order."""
    order = np.random.default_rng(seed).permutation(len(positions))
    return positions[np.sort(order[:count])], positions[np.sort(order[count:])]


def _rows_or_none(rows: Dataset, positions: Positions) -> Dataset | None:
    return select_rows(rows, positions) if len(positions) else None


def _check_partition(
    parts: list[list[int]], num_clients: int, num_rows: int, partitioner: Partitioner
) -> None:
    name = type(partitioner).__name__
    if len(parts) != num_clients:
        raise ValueError(
            f"`data.partitioner` {name} is expected to give {num_clients} parts "
            f"(`data.num_clients`), but gave {len(parts)}"
        )
    empty = [i for i, part in enumerate(parts) if not len(part)]
    if empty:
        raise ValueError(
            f"`data.partitioner` {name} leaves {len(empty)} of {num_clients} clients without data, "
            f"the first is client {empty[0]}: set its `min_samples` to 1 or more, or lower "
            f"`data.num_clients`"
        )
    everyone = concatenated([np.asarray(part, np.int64) for part in parts])
    if everyone.min() < 0 or everyone.max() >= num_rows or np.bincount(everyone).max() > 1:
        raise ValueError(
            f"`data.partitioner` {name} is expected to give disjoint positions from 0 to "
            f"{num_rows - 1}, but some repeat or are out of range"
        )
