"""Numerics of perturbations: normal noise, wider and narrower dtypes, root mean square."""

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


def widen(values: Tensor) -> Tensor:
    """``values`` in at least float32.

    Example:
        >>> widen(torch.ones(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def narrow(values: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """``values`` in a narrower dtype; to bfloat16 they are rounded up or down at random, unbiased.

    Rounding to the nearest bfloat16 would swallow whatever is below 2⁻⁹ of a number, and with it any
    smaller perturbation. Numbers that bfloat16 can hold stay as they are; the gradient is that of
    the identity. Gupta et al., "Deep Learning with Limited Numerical Precision", 2015,
    https://arxiv.org/abs/1502.02551.

    Args:
        values: In float32 or float64.
        dtype: The dtype wanted.
        generator: Draws the rounding.

    Example:
        >>> near_one = torch.full((10_000,), 1 + 2**-9)
        >>> near_one.to(torch.bfloat16).float().mean()  # half a step above 1
        tensor(1.)
        >>> rounded = narrow(near_one, torch.bfloat16, torch.Generator().manual_seed(0))
        >>> bool((rounded.float().mean() - near_one.mean()).abs() < 1e-4)
        True
    """
    if dtype != torch.bfloat16:
        return values.to(dtype)
    exact = values.detach().float()
    drawn = torch.randint(
        0, 2**16, exact.shape, generator=generator, device=generator.device, dtype=torch.int32
    ).to(exact.device)
    # bfloat16 is the upper half of a float32: add below its last bit, cut, and let the carry decide
    bits = (exact.view(torch.int32) + drawn) & -(2**16)
    rounded = bits.view(torch.float32).where(exact.isfinite(), exact)
    return (values + (rounded - exact).nan_to_num(0.0).to(values.dtype)).to(dtype)


def root_mean_square(values: Tensor, mask: Tensor) -> Tensor:
    """RMS of the features at unmasked positions, without a gradient.

    Args:
        values: [..., d], floating.
        mask: [...], bool.

    Returns:
        A scalar; 0 where nothing is left.

    Example:
        >>> values = torch.tensor([[3.0, 3.0], [9.0, 9.0]])
        >>> root_mean_square(values, torch.tensor([True, False]))
        tensor(3.)
    """
    # masked by position and not by feature, which would take a copy of all values
    norms: Tensor = torch.linalg.vector_norm(values.detach(), dim=-1).masked_fill(~mask, 0.0)
    count = (mask.sum() * values.shape[-1]).clamp(min=1)
    norm: Tensor = torch.linalg.vector_norm(norms)
    return norm / count.to(norm.dtype).sqrt()
