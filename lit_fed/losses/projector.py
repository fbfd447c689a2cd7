"""A linear map between the hidden sizes of two models."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def fit_projector(source: Tensor, target: Tensor, ridge: float = 1e-6) -> nn.Linear:
    r"""The frozen affine map that best takes one model's representations to another's.

    Minimises :math:`\|XW^\top + b - Y\|^2 + \rho n \bar\sigma^2 \|W\|^2` in closed form, ρ relative to the
    mean variance σ̄² of X; in float64 on the CPU.

    Args:
        source: X, representations of n inputs, [n, d_source].
        target: Y, the other model's representations of the same inputs, [n, d_target].
        ridge: ρ ≥ 0.

    Returns:
        A frozen ``nn.Linear(d_source, d_target)`` in float32.

    Raises:
        ValueError: If the two do not have the same number of rows, or none.

    Example:
        >>> x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
        >>> projector = fit_projector(x, 2 * x[:, :2] + 1)
        >>> torch.allclose(projector(x), 2 * x[:, :2] + 1, atol=1e-3)
        True
    """
    if source.dim() != 2 or target.dim() != 2 or len(source) != len(target) or not len(source):
        raise ValueError(
            f"`source` and `target` are expected to be [n, d_source] and [n, d_target] with n > 0, "
            f"but got {list(source.shape)} and {list(target.shape)}"
        )
    x, y = source.detach().double().cpu(), target.detach().double().cpu()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x
    shift = ridge * gram.diagonal().mean().clamp(min=torch.finfo(torch.float64).tiny)
    # lstsq, for a gram matrix may be singular where ridge = 0
    matrix = torch.linalg.lstsq(
        gram + shift * torch.eye(len(gram), dtype=torch.float64), x.T @ y, driver="gelsd"
    ).solution.T
    projector = nn.Linear(source.shape[1], target.shape[1])
    projector.weight.copy_(matrix)
    projector.bias.copy_(y_mean - matrix @ x_mean)
    return projector.requires_grad_(False)
