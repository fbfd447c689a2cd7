"""Pooling: one vector of a text's token states."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """The mean over a text's tokens, [B, d].

    Args:
        states: [B, L, d].
        mask: 1 at the text's tokens, 0 at padding, [B, L].

    Example:
        >>> mean_of_tokens(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
        tensor([[2.]])
    """
    kept = mask.unsqueeze(-1).to(states.dtype)
    return (states * kept).sum(1) / kept.sum(1).clamp(min=1)


def first_token(states: Tensor, mask: Tensor) -> Tensor:
    """The state of a text's first token, [B, d]; shapes as for :func:`mean_of_tokens`.

    Example:
        >>> first_token(torch.tensor([[[9.0], [1.0], [3.0]]]), torch.tensor([[0, 1, 1]]))
        tensor([[1.]])
    """
    return states[torch.arange(len(states)), mask.argmax(1)]


def last_token(states: Tensor, mask: Tensor) -> Tensor:
    """The state of a text's last token, [B, d]; shapes as for :func:`mean_of_tokens`.

    Example:
        >>> last_token(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
        tensor([[3.]])
    """
    place = mask.shape[1] - 1 - mask.flip(1).argmax(1)
    return states[torch.arange(len(states)), place]


def largest_of_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """The largest of each component over a text's tokens, [B, d]; shapes as for :func:`mean_of_tokens`.

    Example:
        >>> largest_of_tokens(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
        tensor([[3.]])
    """
    return states.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).amax(1)
