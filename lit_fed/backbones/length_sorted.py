"""Vectors of texts by a model, those of similar length together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


def in_length_sorted_batches(
    texts: list[str],
    tokenizer: Any,
    max_tokens: int | None,
    batch_size: int,
    run: Callable[[Mapping[str, Tensor]], Tensor],
    pairs: list[str] | None = None,
) -> Tensor:
    """The texts' vectors in the texts' order, though the longest are run first.

    Args:
        texts: N texts.
        tokenizer: Of Hugging Face, with a padding token.
        max_tokens: Tokens of a text that are read; None: all.
        batch_size: Texts at once.
        run: Gives a batch's vectors, [B, d], of ``input_ids``, ``attention_mask`` and what else the tokenizer makes.
        pairs: N texts, each of which is read behind the one of its place. None: there is one text each.

    Returns:
        [N, d], float32, on the CPU. A text without tokens has a row of zeros.
    """
    tokens = tokenizer(texts, pairs, truncation=max_tokens is not None, max_length=max_tokens)

    def read(rows: list[int]) -> Tensor:
        fields = {name: [values[i] for i in rows] for name, values in tokens.items()}
        return run(tokenizer.pad(fields, return_tensors="pt"))

    return length_sorted([len(ids) for ids in tokens["input_ids"]], batch_size, read)


def length_sorted(
    lengths: Sequence[int], batch_size: int, run: Callable[[list[int]], Tensor]
) -> Tensor:
    """Vectors of rows in the rows' order, though the longest are run first.

    Args:
        lengths: Tokens of each of N rows.
        batch_size: Rows at once.
        run: Gives the vectors, [B, d], of the rows at B places.

    Returns:
        [N, d], float32, on the CPU; zeros of a row without tokens. d is 1 where no row has any.

    Example:
        >>> length_sorted([1, 0, 3], 2, lambda rows: torch.tensor([[float(row), 1.0] for row in rows])).tolist()
        [[0.0, 1.0], [0.0, 0.0], [2.0, 1.0]]
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    read = [i for i in order if lengths[i]]
    found: Tensor | None = None
    for start in range(0, len(read), batch_size):
        rows = read[start : start + batch_size]
        vectors = run(rows).float().cpu()
        if found is None:
            found = torch.zeros(len(lengths), vectors.shape[1])
        found[rows] = vectors
    return torch.zeros(len(lengths), 1) if found is None else found
