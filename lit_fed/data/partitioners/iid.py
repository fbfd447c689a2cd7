"""Clients alike in what they hold and how much."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lit_fed.data.partitioners.partitioner import Partitioner

if TYPE_CHECKING:
    from datasets import Dataset


class IIDPartitioner(Partitioner):
    """Rows are shuffled and dealt out evenly: sizes differ by at most one.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    2017, section 3, https://arxiv.org/abs/1602.05629.

    >>> from datasets import Dataset
    >>> parts = IIDPartitioner()(Dataset.from_dict({"label": range(7)}), num_clients=3, seed=0)
    >>> [len(part) for part in parts]
    [3, 2, 2]
    """

    def __call__(self, rows: Dataset, num_clients: int, seed: int) -> list[list[int]]:
        """Divide the rows, see :class:`Partitioner`."""
        order = np.random.default_rng(seed).permutation(len(rows))
        return [np.sort(part).tolist() for part in np.array_split(order, num_clients)]
