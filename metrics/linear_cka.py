"""Debiased linear CKA, the similarity of two representations of the same inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_fed.metrics.arguments import positive_integer


def debiased_linear_cka(x: Tensor, y: Tensor, chunk_size: int = 1024) -> Tensor:
    r"""Centred kernel alignment of linear kernels, from the unbiased estimator of HSIC.

    .. math:: CKA = \frac{HSIC_1(X, Y)}{\sqrt{HSIC_1(X, X)\, HSIC_1(Y, Y)}}, \quad
        n(n-3)\, HSIC_1(X, Y) = \|X^\top Y\|_F^2 - \frac{n}{n-2} \sum_i \|x_i\|^2 \|y_i\|^2
        + \frac{\|X\|_F^2 \|Y\|_F^2}{(n-1)(n-2)}

    with the columns of X and Y centred. Kornblith et al., "Similarity of Neural Network
    Representations Revisited" (2019), https://arxiv.org/abs/1905.00414; Song et al., "Feature
    Selection via Dependence Maximization" (2012), https://jmlr.org/papers/v13/song12a.html; used
    so in Nguyen et al. (2021), https://arxiv.org/abs/2010.15327.

    Unlike the biased one, which tends to 1 when the width exceeds the number of probes, it is about
    0 for unrelated features. It does not change under rotation, isotropic scaling or a shift of
    either side. Computed in float64 (float32 on MPS), differentiable.

    Args:
        x: Features of n probes, [n, d].
        y: Other features of the same probes, [n, d'].
        chunk_size: Rows of the largest intermediate matrices: beside the features in the wider
            dtype, they take ``chunk_size * n`` or ``chunk_size * d'`` numbers, whichever means less
            arithmetic, and never ``n * n`` or ``d * d'``.

    Returns:
        A scalar of at most 1, about 0 without relation and a little negative by chance, in float32
        or the wider dtype given. Constant features (a collapsed representation) give 0/0 = 0;
        NaN if the features hold NaN or infinity.

    Raises:
        ValueError: If the shapes are not [n, d] and [n, d'], if n < 4, or ``chunk_size`` < 1.
        TypeError: If ``chunk_size`` is no integer.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x, noise = torch.randn(200, 16), torch.randn(200, 16)
        >>> rotation = torch.linalg.qr(torch.randn(16, 16)).Q
        >>> round(debiased_linear_cka(x, 3 * x @ rotation + 1).item(), 4)
        1.0
        >>> bool(debiased_linear_cka(x, noise).abs() < 0.05)
        True
    """
    positive_integer("chunk_size", chunk_size)
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y):
        raise ValueError(
            "`x` and `y` are expected to have shapes [probes, width] with the same probes, "
            f"but have {list(x.shape)} and {list(y.shape)}"
        )
    if len(x) < 4:
        raise ValueError(f"`x` and `y` are expected to have at least 4 probes, but have {len(x)}")
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    x, y = _normalized(x), _normalized(y.to(x.device))
    xy, xx, yy = (_hsic(a, b, chunk_size) for a, b in ((x, y), (x, x), (y, y)))
    scale = xx * yy
    # With `<=`, NaN is not taken for zero; the inner `where` keeps the gradient of 0/0 finite.
    none = scale <= 0
    return torch.where(none, 0 * xy, xy / torch.where(none, 1.0, scale).sqrt()).to(dtype)


def _normalized(features: Tensor) -> Tensor:
    """Centred columns, of Frobenius norm 1, or all 0 for features which are constant."""
    features = features.to(torch.float32 if features.device.type == "mps" else torch.float64)
    centred = features - features.mean(dim=0)
    norm, rounding = centred.norm(), torch.finfo(features.dtype).eps * len(features)
    constant = norm <= rounding * features.norm()
    return torch.where(constant, 0.0, centred / torch.where(constant, 1.0, norm))


def _hsic(x: Tensor, y: Tensor, chunk_size: int) -> Tensor:
    """The unbiased HSIC times n(n - 3), a factor that cancels; 0 where only rounding is left."""
    n = len(x)
    x_squared, y_squared = x.square().sum(dim=1), y.square().sum(dim=1)
    cross = _squared_cross_norm(x, y, chunk_size)
    value = (
        cross
        - n / (n - 2) * (x_squared @ y_squared)
        + x_squared.sum() * y_squared.sum() / ((n - 1) * (n - 2))
    )
    rounding = 16 * n * torch.finfo(value.dtype).eps * cross
    return torch.where(value.abs() <= rounding, 0 * value, value)


def _squared_cross_norm(x: Tensor, y: Tensor, chunk_size: int) -> Tensor:
    """The squared Frobenius norm of x^T y, also the trace of (x x^T)(y y^T), a strip at a time."""
    total = x.new_zeros(())
    if len(x) * (x.shape[1] + y.shape[1]) < x.shape[1] * y.shape[1]:
        for a, b in zip(x.split(chunk_size), y.split(chunk_size), strict=True):
            total = total + ((a @ x.T) * (b @ y.T)).sum()
    else:
        for a in x.split(chunk_size, dim=1):
            total = total + (a.T @ y).square().sum()
    return total
