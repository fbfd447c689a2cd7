"""Slopes of indices: where one bends or jumps it has none, and its standard error cannot be told."""

from __future__ import annotations

import torch
from torch import Tensor


def without_slope(values: Tensor, where: Tensor) -> Tensor:
    """The same values, whose gradient is NaN at some places, unless nothing depends on them there.

    Args:
        values: Any shape.
        where: At which, bool, the same shape.

    Example:
        >>> x = torch.ones(3, requires_grad=True)
        >>> there = torch.tensor([False, True, True])
        >>> (without_slope(x, there) * torch.tensor([2.0, 2.0, 0.0])).sum().backward()
        >>> x.grad
        tensor([2., nan, 0.])
    """
    same = values.clone()
    if same.requires_grad:
        same.register_hook(lambda slope: slope.masked_fill(where & (slope != 0), torch.nan))
    return same


def share_of(part: Tensor, whole: Tensor) -> Tensor:
    """The share ``part / whole``, with 0/0 = 0, and NaN where the whole alone is 0.

    At 0/0 it jumps: its gradient is NaN.

    Args:
        part: At least 0, any shape.
        whole: At least 0, the same shape.

    Example:
        >>> share_of(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([2.0, 0.0, 0.0]))
        tensor([0.5000, 0.0000,    nan])
    """
    nothing = whole == 0
    # a quotient by 0 that is not chosen would still make the gradient NaN
    share = part / torch.where(nothing, 1.0, whole)
    of_nothing = torch.where(part == 0, without_slope(part, nothing), torch.nan)
    return torch.where(nothing, of_nothing, share)
