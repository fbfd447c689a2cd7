"""Attention within rows that are packed into one sequence, and whether a language model keeps to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def block_mask(segments: Tensor) -> Tensor:
    """Which tokens see which: those before them in the same row.

    Args:
        segments: The row of each token [B, L], 0 at padding.

    Returns:
        Truth values [B, 1, L, L], by the token that sees and the one that is seen.

    >>> block_mask(torch.tensor([[1, 1, 2]]))[0, 0].int().tolist()
    [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    """
    same = segments[:, :, None] == segments[:, None, :]
    length = segments.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=segments.device).tril()
    return (same & before)[:, None]


def sequence(rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Rows of tokens as one sequence of a batch.

    >>> sequence([[5, 6], [7]])["segment_ids"].tolist()
    [[1, 1, 2]]
    """
    ids = [token for row in rows for token in row]
    return {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
        "position_ids": torch.tensor([[i for row in rows for i in range(len(row))]]),
        "segment_ids": torch.tensor([[n for n, row in enumerate(rows, 1) for _ in row]]),
    }


def reads_packed(
    predict: Callable[[dict[str, Tensor]], Tensor], rows: Sequence[Sequence[int]], tolerance: float
) -> bool:
    """Whether a language model's predictions of rows are the same in one sequence as alone.

    Args:
        predict: The model's logits [B, L, V] for a batch.
        rows: Rows of tokens.
        tolerance: Part of their spread by which predictions may differ.
    """
    try:
        together = predict(sequence(rows))[0].double()
        alone = torch.cat([predict(sequence([row]))[0].double() for row in rows])
        plain = torch.cat([predict(_unpacked(row))[0].double() for row in rows])
    # a model may refuse such a mask with whatever error
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError):
        return False
    spread = plain.max() - plain.min()
    differences = torch.stack([(together - plain).abs().max(), (alone - plain).abs().max()])
    return bool((differences <= tolerance * spread).all())


def _unpacked(row: Sequence[int]) -> dict[str, Tensor]:
    ids = torch.tensor([list(row)])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
