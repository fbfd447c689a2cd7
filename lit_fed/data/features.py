"""Tokenised rows, kept flat, and their batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

IGNORED = -100
"""Label of a token that is not learnt."""

Array = npt.NDArray[Any]


class Features(TorchDataset[dict[str, Tensor]]):
    """N tokenised rows of T tokens in all; as a PyTorch dataset, it gives whole padded batches.

    Rows lie one after another in one array a field, which a thousand clients can afford and from
    which a batch is a few gathers. Each field ends in its padding value, so that padding is one
    more position to gather from.

    Args:
        tokens: Fields with a value for each token, such as ``input_ids``: a sequence a row.
        rows: Fields with a value for each row, such as ``labels`` [N].
        padding: The value that pads each field of `tokens`.
        cut: How many rows had more tokens than they may.

    Attributes:
        pad_to_multiple_of: The length of batches is padded to a multiple of this.
        padding_side: Where rows are padded, ``right`` or ``left``.

    >>> features = Features({"input_ids": [[5, 6], [7]]}, {"labels": [1, 0]}, {"input_ids": 0})
    >>> batch = features.batch([1, 0])
    >>> batch["input_ids"].tolist(), batch["attention_mask"].tolist(), batch["labels"].tolist()
    ([[7, 0], [5, 6]], [[1, 0], [1, 1]], [0, 1])
    """

    def __init__(
        self,
        tokens: Mapping[str, Sequence[Sequence[int]]],
        rows: Mapping[str, Sequence[Any] | Array],
        padding: Mapping[str, int],
        cut: int = 0,
    ) -> None:
        self.cut = cut
        lengths = np.fromiter(map(len, tokens["input_ids"]), np.int64)
        self.offsets = np.concatenate([np.zeros(1, np.int64), lengths.cumsum()])
        self.tokens = {name: _flat(values, padding[name]) for name, values in tokens.items()}
        self.rows = {name: np.asarray(values) for name, values in rows.items()}
        self.pad_to_multiple_of = 1
        self.padding_side = "right"

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each row, [N]."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """Memory of the arrays, in bytes."""
        fields = chain([self.offsets], self.tokens.values(), self.rows.values())
        return sum(field.nbytes for field in fields)

    def row(self, name: str, position: int) -> Array:
        """A row's values of a field of tokens, without padding."""
        return self.tokens[name][self.offsets[position] : self.offsets[position + 1]]

    def batch(self, positions: Sequence[int]) -> dict[str, Tensor]:
        """Rows padded to the longest of them.

        Args:
            positions: Which rows, B of them.

        Returns:
            The fields of tokens and ``attention_mask`` [B, L], and the fields of rows [B].
        """
        chosen = np.asarray(positions)
        start, stop = self.offsets[chosen], self.offsets[chosen + 1]
        longest = int((stop - start).max())
        width = -(-longest // self.pad_to_multiple_of) * self.pad_to_multiple_of
        first = stop - width if self.padding_side == "left" else start
        where = first[:, None] + np.arange(width)
        inside = (start[:, None] <= where) & (where < stop[:, None])
        where[~inside] = self.offsets[-1]
        batch = {
            name: torch.from_numpy(flat.take(where).astype(np.int64))
            for name, flat in self.tokens.items()
        }
        batch["attention_mask"] = torch.from_numpy(inside.astype(np.int64))
        for name, values in self.rows.items():
            batch[name] = torch.from_numpy(values.take(chosen))
        return batch

    def __getitems__(self, positions: list[int]) -> dict[str, Tensor]:
        """What a ``DataLoader`` fetches for a batch: already collated."""
        return self.batch(positions)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        return {name: value[0] for name, value in self.batch([position]).items()}


def collated(batch: Any) -> Any:
    """The collate function of :class:`Features`, whose batches are collated already."""
    return batch


def _flat(values: Sequence[Sequence[int]], padding: int) -> Array:
    tokens: Iterable[int] = chain(chain.from_iterable(values), [padding])
    return np.fromiter(tokens, np.int32)
