"""Vectors of texts by a model, those of similar length together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    lengths = [len(ids) for ids in tokens["input_ids"]]
    order = sorted(range(len(texts)), key=lambda i: -lengths[i])
    read = [i for i in order if lengths[i]]
    found: Tensor | None = None
    for start in range(0, len(read), batch_size):
        rows = read[start : start + batch_size]
        fields = {name: [values[i] for i in rows] for name, values in tokens.items()}
        vectors = run(tokenizer.pad(fields, return_tensors="pt")).float().cpu()
        if found is None:
            found = torch.zeros(len(texts), vectors.shape[1])
        found[rows] = vectors
    return torch.zeros(len(texts), 1) if found is None else found
