"""Packing: several rows in one sequence, with what tells them apart."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
import numpy.typing as npt

from lit_fed.data.features import IGNORED, Features


def packed(features: Features, max_length: int) -> Features:
    """Rows of a language model in sequences of several, each up to a length.

    The longest row first, each into the fullest sequence that has room (best fit decreasing: Johnson et al., 1974,
    https://doi.org/10.1137/0203025).

    Args:
        features: Rows with ``input_ids`` and ``labels``.
        max_length: Tokens of a sequence; a row that is longer is one of its own.

    Returns:
        The sequences, with ``position_ids``, which begin anew with each row, and ``segment_ids``, the row's number in
        its sequence from 1, 0 at padding. A row's first token is not learnt, since nothing comes before it.

    >>> rows = Features(
    ...     {"input_ids": [[5], [6, 7, 8], [9, 4]], "labels": [[5], [6, 7, 8], [9, 4]]},
    ...     {"index": [0, 1, 2]},
    ...     {"input_ids": 0, "labels": -100},
    ... )
    >>> batch = packed(rows, 4).batch([0, 1])
    >>> batch["input_ids"].tolist(), batch["segment_ids"].tolist()
    ([[6, 7, 8, 5], [9, 4, 0, 0]], [[1, 1, 1, 2], [1, 1, 0, 0]])
    """
    packs = _packs(features.lengths, max_length)
    labels = features.tokens["labels"].copy()
    labels[features.offsets[:-1]] = IGNORED
    fields = {**features.tokens, "labels": labels}
    tokens = {
        name: [np.concatenate([_row(features, flat, i) for i in pack]) for pack in packs]
        for name, flat in fields.items()
    }
    sizes = [[int(features.lengths[i]) for i in pack] for pack in packs]
    tokens["position_ids"] = [np.concatenate([np.arange(n) for n in own]) for own in sizes]
    tokens["segment_ids"] = [np.repeat(np.arange(1, len(own) + 1), own) for own in sizes]
    padding = {name: int(flat[-1]) for name, flat in features.tokens.items()}
    return Features(
        {name: [one.tolist() for one in own] for name, own in tokens.items()},
        {},
        {**padding, "position_ids": 0, "segment_ids": 0},
        features.cut,
    )


def _row(features: Features, flat: npt.NDArray[np.int32], position: int) -> npt.NDArray[np.int32]:
    return flat[features.offsets[position] : features.offsets[position + 1]]


def _packs(lengths: npt.NDArray[np.int64], size: int) -> list[list[int]]:
    """The rows of each sequence."""
    packs: list[list[int]] = []
    # room that is left, and whose it is, in order
    rooms: list[tuple[int, int]] = []
    for row in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[row])
        place = bisect_left(rooms, (length, -1))
        room, pack = rooms.pop(place) if place < len(rooms) else (max(size, length), len(packs))
        if pack == len(packs):
            packs.append([])
        packs[pack].append(row)
        if room > length:
            insort(rooms, (room - length, pack))
    return packs
