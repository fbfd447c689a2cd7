"""The mean of what is left at each coordinate when the smallest and the largest values are taken away."""

from __future__ import annotations

from torch import Tensor


def trimmed(values: Tensor, each_side: int) -> tuple[Tensor, Tensor]:
    """The mean at each coordinate of all values but the smallest and the largest ones, and whose values these were.

    Equal values share the places that they have, so that the order of the clients does not matter.

    Args:
        values: [K, n].
        each_side: How many are left out at either end; at least one of K is left.

    Returns:
        The means [n], and the sums over the coordinates of each client's weight [K].

    Example:
        >>> import torch
        >>> trimmed(torch.tensor([[1.0, 2.0], [2.0, 2.0], [9.0, 0.0]]), each_side=1)
        (tensor([2., 2.]), tensor([0.5000, 1.5000, 0.0000]))
    """
    kept = values.sort(0).values[each_side : len(values) - each_side]
    low, high = kept[0], kept[-1]
    at_low, at_high = values == low, values == high
    counted = ((values > low) & (values < high)).to(values.dtype)
    counted += at_low * ((kept == low).sum(0) / at_low.sum(0))
    counted += (at_high & (high > low)) * ((kept == high).sum(0) / at_high.sum(0))
    return kept.mean(0), counted.sum(1) / len(kept)
