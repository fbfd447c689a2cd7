"""The one masked mean of the project."""

from __future__ import annotations

from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Mean of ``values`` where ``mask`` is true.

    .. math:: \frac{\sum_i m_i w_i v_i}{\sum_i m_i w_i}

    Args:
        values: Values of any shape, floating.
        mask: Booleans of the same shape.
        weight: Non-negative weights of the examples, shape [B], B the first dimension of ``values``.

    Returns:
        A scalar. Where nothing is left to average it is 0, with a gradient of 0, never NaN.

    Raises:
        ValueError: If the shapes of ``values`` and ``mask`` differ.

    Example:
        >>> import torch
        >>> masked_mean(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False]))
        tensor(2.)
        >>> masked_mean(torch.tensor([float("nan")]), torch.tensor([False]))
        tensor(0.)
    """
    if values.shape != mask.shape:
        raise ValueError(
            f"`mask` is expected to have the shape of `values`, {list(values.shape)}, but got {list(mask.shape)}"
        )
    weights = mask.to(values.dtype)
    if weight is not None:
        weights = weights * weight.to(values.dtype).reshape(-1, *[1] * (values.dim() - 1))
    total = weights.sum()
    # masked_fill, not multiplication: 0 · NaN would bring the masked NaN back
    weighted = values.masked_fill(~mask, 0.0) * weights
    return weighted.sum() / total.where(total > 0, 1.0)
