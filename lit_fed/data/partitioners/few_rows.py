"""Clients with few rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lit_fed.data.partitioners.iid import IIDPartitioner
from lit_fed.data.partitioners.partitioner import Partitioner
from lit_fed.limits import require_at_least, require_instance

if TYPE_CHECKING:
    from datasets import Dataset


class FewRowsPartitioner(Partitioner):
    """Each client keeps at most so many of the rows that another partitioner gives it; the rest is nobody's.

    It makes of a large table the case that federations are for, clients who have too little data each.

    Args:
        max_rows: The most rows of a client, drawn at random; or one number a client in their order, of which the last
            holds for all further ones, such as ``[10, 100]`` for a first client with few.
        partitioner: Divides the rows before. None: evenly.

    Raises:
        TypeError: If the partitioner is none.
        ValueError: If `max_rows` is empty or below 1.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"label": [0, 1] * 50})
    >>> [len(part) for part in FewRowsPartitioner(max_rows=20)(rows, num_clients=4, seed=0)]
    [20, 20, 20, 20]
    >>> [len(part) for part in FewRowsPartitioner(max_rows=[5, 20])(rows, num_clients=4, seed=0)]
    [5, 20, 20, 20]
    """

    def __init__(
        self, max_rows: int | list[int] = 100, partitioner: Partitioner | None = None
    ) -> None:
        numbers = max_rows if isinstance(max_rows, list) else [max_rows]
        if not numbers:
            raise ValueError(
                "`data.partitioner.max_rows` is expected to be a number, or one or more of them, but got []"
            )
        for number in numbers:
            require_at_least("data.partitioner.max_rows", number, 1)
        require_instance("data.partitioner.partitioner", partitioner, Partitioner)
        self.max_rows = max_rows
        self.partitioner = IIDPartitioner() if partitioner is None else partitioner

    def __call__(self, rows: Dataset, num_clients: int, seed: int) -> list[list[int]]:
        """Divide the rows, see :class:`Partitioner`."""
        parts = self.partitioner(rows, num_clients, seed)
        numbers = self.max_rows if isinstance(self.max_rows, list) else [self.max_rows]
        limits = [*numbers, *[numbers[-1]] * len(parts)]
        # with a lower limit a client keeps some of what it would have, and no other client keeps anything else
        return [
            np.sort(np.random.default_rng([seed, i]).permutation(part)[: limits[i]]).tolist()
            for i, part in enumerate(parts)
        ]

    def default_num_clients(self, rows: Dataset) -> int:
        """As many as there are for the partitioner before."""
        return self.partitioner.default_num_clients(rows)

    def client_names(self, rows: Dataset, parts: Sequence[Sequence[int]]) -> list[str] | None:
        """As the partitioner before calls them."""
        return self.partitioner.client_names(rows, parts)
