"""How far the directions of vectors agree, over all pairs of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lit_fed.metrics.arguments import widened


def mean_pairwise_cosine(vectors: Tensor) -> Tensor:
    r"""The mean cosine over the pairs of different vectors.

    .. math:: \frac{2}{K (K - 1)} \sum_{i < j} \frac{v_i \cdot v_j}{\lVert v_i \rVert \lVert v_j \rVert}
        = \frac{\lVert \sum_i u_i \rVert^2 - \sum_i \lVert u_i \rVert^2}{K (K - 1)}, \quad
        u_i = \frac{v_i}{\lVert v_i \rVert}

    With gradients of clients at the same weights it tells how far their data ask for the same change.

    Args:
        vectors: K vectors, [K, d].

    Returns:
        A scalar from -1/(K-1) to 1, in at least float32; a zero vector has the cosine 0 with all others. NaN with
        fewer than two vectors.

    Raises:
        ValueError: If ``vectors`` is not [K, d].

    Example:
        >>> mean_pairwise_cosine(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]))
        tensor(0.3333)
    """
    if vectors.ndim != 2:
        raise ValueError(
            f"`vectors` are expected to have shape [vectors, width], but have {list(vectors.shape)}"
        )
    count = len(vectors)
    wide = widened(vectors)
    if count < 2:
        return wide.new_tensor(torch.nan)
    # by the greatest entry first: the square of a small gradient is no number of float32
    greatest = wide.abs().amax(dim=1, keepdim=True)
    units = functional.normalize(wide / torch.where(greatest > 0, greatest, 1), dim=1)
    return (units.sum(0).square().sum() - units.square().sum()) / (count * (count - 1))
