"""A digest of all that decides what a model answers, but the prompt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lit_fed.shards import whole


def content_digest(told: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """A digest of settings and of every value of weights.

    Args:
        told: Values by name, which need a representation that tells them apart.
        weights: Tensors by name.

    Returns:
        32 hexadecimal digits.

    Example:
        >>> one, other = torch.zeros(2), torch.tensor([0.0, 1e-7])
        >>> content_digest({}, {"w": one}) == content_digest({}, {"w": other})
        False
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(dict(told), sort_keys=True, default=_written).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode())
        values = whole(tensor.detach()).cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _written(value: Any) -> Any:
    """What JSON takes in the place of a value; of a set, whose order is another one in each process, a list."""
    return sorted(value, key=repr) if isinstance(value, set | frozenset) else repr(value)


def tokenizer_content(tokenizer: Any) -> str:
    """A digest of all that decides which text tokens are."""
    if tokenizer.is_fast:
        # truncation and padding, which the last call has left behind, stand before the added tokens
        text = tokenizer.backend_tokenizer.to_str().partition('"added_tokens"')[2]
    else:
        text = "\n".join(map(str, tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))))
    told = [text, tokenizer.special_tokens_map, tokenizer.clean_up_tokenization_spaces]
    return hashlib.blake2b(repr(told).encode(errors="surrogatepass"), digest_size=8).hexdigest()
