"""Which class or choice has the greatest score."""

from __future__ import annotations

from torch import Tensor


def likeliest(scores: Tensor) -> Tensor:
    """The place of the greatest score in the last dimension; of equal ones the first, −1 where one is NaN.

    Args:
        scores: Such as logits, [..., C].

    Returns:
        Places, [...].

    Example:
        >>> import torch
        >>> likeliest(torch.tensor([[0.0, 2.0], [0.0, float("nan")]]))
        tensor([ 1, -1])
    """
    return scores.argmax(-1).masked_fill(scores.isnan().any(-1), -1)
