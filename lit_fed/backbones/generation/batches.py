"""Batches of prompts that are continued together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby


def batches(lengths: Sequence[int], size: int, padded: bool) -> Iterator[list[int]]:
    """Rows of similar length together, which saves padding; of the same length where none may be padded.

    Args:
        lengths: Tokens of each row.
        size: Rows at most of a batch.
        padded: Whether rows of different lengths may be in a batch.

    Yields:
        The positions of each batch's rows.

    Example:
        >>> list(batches([3, 1, 3, 2], 2, padded=True)), list(batches([3, 1, 3, 2], 2, padded=False))
        ([[1, 3], [0, 2]], [[1], [3], [0, 2]])
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for _, group in groupby(order, key=lambda i: 0 if padded else lengths[i]):
        rows = list(group)
        yield from (rows[i : i + size] for i in range(0, len(rows), size))
