"""Who gets which rows: validation, public set and clients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
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
_VALIDATION, _PUBLIC, _CLIENTS, _CLIENT_VALIDATION, _KEPT = range(5)
_EVERYONE = "all-clients"


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
    partitioner: Partitioner | Mapping[str, Positions],
    num_clients: int | None,
    validation_fraction: float,
    public_size: int,
    client_validation_fraction: float,
    seed: int,
    pool_clients: bool = False,
) -> Division:
    """Divide a training table.

    Args:
        rows: The table.
        partitioner: How rows are divided among clients; or, where they are separate already, the positions of
            each one's rows by its name. Of those each keeps at least one row.
        num_clients: How many clients there are. None: as many as are separate, or as the partitioner says.
        validation_fraction: Part of all rows carved off for validation.
        public_size: Rows carved off for the public set.
        client_validation_fraction: Part of each client's rows that it holds out.
        seed: The same seed gives the same division.
        pool_clients: One client has what all of them would have.

    Raises:
        ValueError: If there are too few rows, or a client is left without.
    """
    num_rows = len(rows)
    separate = None if isinstance(partitioner, Partitioner) else partitioner
    kept = _one_of_each(separate or {}, [seed, _KEPT])
    free = np.setdiff1d(np.arange(num_rows), kept)
    validation, free = _carve(free, _share(num_rows, validation_fraction), [seed, _VALIDATION])
    if public_size > len(free):
        raise ValueError(
            f"`data.public_size` is {public_size}, but only {len(free)} of the {num_rows} rows of "
            f"data.train are left"
        )
    public, free = _carve(free, public_size, [seed, _PUBLIC])
    left = np.union1d(free, kept)
    if isinstance(partitioner, Partitioner):
        # One whole number for the partitioner, whose interface is a seed.
        partition_seed = int(np.random.default_rng([seed, _CLIENTS]).integers(2**31))
        own = select_rows(rows, left)
        count = partitioner.default_num_clients(own) if num_clients is None else num_clients
        if len(left) < count:
            raise ValueError(
                f"`data.num_clients` is {count}, but only {len(left)} of the {num_rows} rows of "
                f"data.train are left for clients ({len(validation)} are for validation, {len(public)} "
                f"are public)"
            )
        parts = partitioner(own, count, partition_seed)
        _check_partition(parts, count, len(left), partitioner)
        names = partitioner.client_names(own, parts) or _numbered(count)
        _require_distinct(names, partitioner)
        held = {
            name: left[np.asarray(part, np.int64)] for name, part in zip(names, parts, strict=True)
        }
    else:
        held = {name: np.intersect1d(part, left) for name, part in partitioner.items()}
    parts_of = {}
    for i, (name, own) in enumerate(held.items()):
        held_out, own = _carve(
            own,
            min(_share(len(own), client_validation_fraction), len(own) - 1),
            [seed, _CLIENT_VALIDATION, i],
        )
        parts_of[name] = (own, held_out)
    everything, kept_apart = (
        np.sort(concatenated(list(one))) for one in zip(*parts_of.values(), strict=True)
    )
    if pool_clients:
        parts_of = {_EVERYONE: (everything, kept_apart)}
    return Division(
        [
            ClientData(name, select_rows(rows, own), _rows_or_none(rows, held_out))
            for name, (own, held_out) in parts_of.items()
        ],
        select_rows(rows, everything),
        _rows_or_none(rows, validation),
        _rows_or_none(rows, public),
    )


def _numbered(count: int) -> list[str]:
    width = len(str(count - 1))
    return [f"client-{i:0{width}d}" for i in range(count)]


def _one_of_each(separate: Mapping[str, Positions], seed: list[int]) -> Positions:
    """A row of each client, which is not carved off."""
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(part) for part in separate.values()], np.int64)


def _require_distinct(names: Sequence[str], partitioner: Partitioner) -> None:
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"`data.partitioner` {type(partitioner).__name__} is expected to give clients names that differ, but "
            f"gave {repeated[0]!r} to several"
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
