"""The precision that losses are computed in."""

from __future__ import annotations

import torch
from torch import Tensor


def widen(values: Tensor) -> Tensor:
    """``values`` in at least float32: half precision is widened, float64 stays.

    Example:
        >>> widen(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
        >>> widen(torch.ones(2, dtype=torch.float64)).dtype
        torch.float64
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
