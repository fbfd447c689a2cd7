"""Clients that hold few labels each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lit_fed.data.columns import column_codes
from lit_fed.data.partitioners.partitioner import Partitioner, concatenated
from lit_fed.limits import require_at_least

if TYPE_CHECKING:
    from datasets import Dataset


class LabelShardsPartitioner(Partitioner):
    """Rows sorted by label are cut into shards of equal size, of which each client gets a few.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    2017, section 3, https://arxiv.org/abs/1602.05629: two shards a client.

    Args:
        shards_per_client: Shards of each client.
        column: The column of labels.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"label": [0, 1, 2, 3] * 2})
    >>> parts = LabelShardsPartitioner(shards_per_client=1)(rows, num_clients=4, seed=0)
    >>> sorted(sorted(rows.select(part)["label"][:]) for part in parts)
    [[0, 0], [1, 1], [2, 2], [3, 3]]
    """

    def __init__(self, shards_per_client: int = 2, column: str = "label") -> None:
        require_at_least("data.partitioner.shards_per_client", shards_per_client, 1)
        self.shards_per_client = shards_per_client
        self.column = column

    def __call__(self, rows: Dataset, num_clients: int, seed: int) -> list[list[int]]:
        """Divide the rows, see :class:`Partitioner`."""
        _, codes = column_codes(rows, self.column, "data.partitioner.column")
        num_shards = num_clients * self.shards_per_client
        if len(rows) < num_shards:
            raise ValueError(
                f"`data.partitioner.shards_per_client` is {self.shards_per_client}, but "
                f"{len(rows)} rows cannot be cut into {num_shards} shards for {num_clients} clients"
            )
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(rows))
        order = order[np.argsort(codes[order], kind="stable")]
        shards = np.array_split(order, num_shards)
        dealt = rng.permutation(num_shards).reshape(num_clients, self.shards_per_client)
        return [np.sort(concatenated([shards[i] for i in hand])).tolist() for hand in dealt]
