"""Clients as they are in the data: authors, devices, hospitals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from lit_fed.data.columns import column_codes
from lit_fed.data.partitioners.partitioner import Partitioner, Positions, concatenated
from lit_fed.limits import require_at_least

if TYPE_CHECKING:
    from datasets import Dataset


class NaturalPartitioner(Partitioner):
    """All rows with the same value of a column, such as the author, go to the same client.

    A client is called by its value, such as ``ann``; one with several by that of the largest and how many
    more there are: ``ann+2``. Where ``data.num_clients`` is null, each value is a client.

    Args:
        column: The column that tells whose a row is.
        surplus: What becomes of more authors than clients. ``group``: a client gets several, in
            groups of sizes as even as greedy filling makes them (the largest author first, into the
            smallest group; Graham 1969, https://doi.org/10.1137/0117039). ``drop``: the largest
            authors are the clients, the others' rows are left out. ``error``: it is an error.
        min_samples: Authors with fewer rows are left out.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"author": ["ann", "bo", "ann", "cy", "bo", "ann"]})
    >>> NaturalPartitioner("author")(rows, num_clients=2, seed=0)
    [[0, 2, 5], [1, 3, 4]]
    >>> NaturalPartitioner("author").client_names(rows, [[0, 2, 5], [1, 3, 4]])
    ['ann', 'bo+1']
    """

    def __init__(
        self,
        column: str = "author",
        surplus: Literal["group", "drop", "error"] = "group",
        min_samples: int = 1,
    ) -> None:
        if surplus not in ("group", "drop", "error"):
            raise ValueError(
                f"`data.partitioner.surplus` is expected to be group, drop or error, but got "
                f"{surplus!r}"
            )
        require_at_least("data.partitioner.min_samples", min_samples, 0)
        self.column = column
        self.surplus = surplus
        self.min_samples = min_samples

    def __call__(self, rows: Dataset, num_clients: int, seed: int) -> list[list[int]]:
        """Divide the rows, see :class:`Partitioner`.

        The seed breaks ties between authors of the same size.
        """
        kept = self._kept(rows)
        if len(kept) < num_clients:
            least = f" with {self.min_samples} rows or more" if self.min_samples > 1 else ""
            raise ValueError(
                f"`data.num_clients` is {num_clients}, but column {self.column!r} of "
                f"`data.partitioner.column` has only {len(kept)} values{least}"
            )
        if len(kept) > num_clients and self.surplus == "error":
            raise ValueError(
                f"`data.num_clients` is {num_clients}, but column {self.column!r} of "
                f"`data.partitioner.column` has {len(kept)} values; set `data.partitioner.surplus` "
                f"to group or drop"
            )
        shuffled = np.random.default_rng(seed).permutation(len(kept))
        largest_first = sorted(shuffled, key=lambda i: -len(kept[i]))
        if self.surplus == "drop":
            largest_first = largest_first[:num_clients]
        groups: list[list[int]] = [[] for _ in range(num_clients)]
        sizes = np.zeros(num_clients, np.int64)
        for author in largest_first:
            smallest = int(sizes.argmin())
            groups[smallest].append(author)
            sizes[smallest] += len(kept[author])
        return [np.sort(concatenated([kept[i] for i in group])).tolist() for group in groups]

    def default_num_clients(self, rows: Dataset) -> int:
        """As many as the column has values with enough rows.

        Raises:
            ValueError: If there is none.
        """
        if not (kept := self._kept(rows)):
            raise ValueError(
                f"`data.partitioner.min_samples` is {self.min_samples}, but no value of column {self.column!r} of "
                "`data.partitioner.column` has as many rows"
            )
        return len(kept)

    def client_names(self, rows: Dataset, parts: Sequence[Sequence[int]]) -> list[str]:
        """The column's values, see above."""
        values, codes = column_codes(rows, self.column, "data.partitioner.column")
        names = []
        for part in parts:
            counts = np.bincount(codes[np.asarray(part, np.int64)])
            more = np.count_nonzero(counts) - 1
            names.append(_name(values[counts.argmax()]) + (f"+{more}" if more else ""))
        return names

    def _kept(self, rows: Dataset) -> list[Positions]:
        """The rows of each value that has enough of them."""
        _, codes = column_codes(rows, self.column, "data.partitioner.column")
        parts = np.split(np.argsort(codes, kind="stable"), np.bincount(codes).cumsum()[:-1])
        return [part for part in parts if len(part) >= self.min_samples]


def _name(value: str) -> str:
    """A value as the name of a client, which stands in lines and is not empty."""
    line = "".join(character if character.isprintable() else " " for character in value)
    return line if line.strip() else "(blank)"
