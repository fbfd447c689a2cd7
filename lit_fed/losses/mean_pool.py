"""One vector for a sequence of hidden states."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_fed.losses.masked_mean import own_mean
from lit_fed.losses.predictions import widen


def mean_pool(hidden: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Mean of the hidden states over the positions that are no padding.

    Args:
        hidden: [B, L, d].
        attention_mask: [B, L], true or not 0 where there is a token. None: everywhere.

    Returns:
        [B, d], at least float32; 0 for an example without a token.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> hidden = torch.tensor([[[1.0], [3.0], [9.0]]])
        >>> mean_pool(hidden, torch.tensor([[1, 1, 0]]))
        tensor([[2.]])
    """
    if hidden.dim() != 3:
        raise ValueError(
            f"`hidden` is expected to have shape [B, L, d], but got {list(hidden.shape)}"
        )
    if attention_mask is None:
        return widen(hidden).mean(1)
    if hidden.shape[:2] != attention_mask.shape:
        raise ValueError(
            f"`hidden` is expected to have shape [*{list(attention_mask.shape)}, d] to fit "
            f"`attention_mask`, but got {list(hidden.shape)}"
        )
    features = torch.vmap(own_mean, in_dims=(1, None))
    pooled: Tensor = torch.vmap(features)(widen(hidden), attention_mask.bool())
    return pooled
