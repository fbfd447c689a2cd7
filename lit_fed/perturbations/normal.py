"""Normal noise from an explicit generator."""

from __future__ import annotations

import torch
from torch import Tensor


def standard_normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """ε ~ N(0, 1) of the shape, dtype and device of ``like``, drawn where the generator lives.

    Drawn on the CPU it is the same on every device.

    Example:
        >>> seeded = torch.Generator().manual_seed(0)
        >>> standard_normal(torch.zeros(2, dtype=torch.float64), seeded).dtype
        torch.float64
    """
    drawn = torch.randn(like.shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)
