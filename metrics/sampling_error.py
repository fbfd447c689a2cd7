"""How far an index of accuracies may be off because its test sets are samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def sampling_error(index: Callable[[Tensor], Tensor], accuracy: Tensor, count: Tensor) -> Tensor:
    r"""Standard error of an index by the delta method, each accuracy being a binomial share.

    .. math:: SE^2 = \sum_i \left(\frac{\partial I}{\partial a_i}\right)^2 \frac{p_i (1 - p_i)}{n_i},
        \quad p_i = \frac{n_i a_i + 1/2}{n_i + 1}

    p is Jeffreys' estimate, so that an accuracy of 0 or 1 has an error as well. The cells are taken as
    independent, which overstates the error where an index is a difference on the same test rows. It tells
    of the test rows alone, not of the seed: two seeds differ by more.

    Where an index bends or jumps there is no derivative, and the error cannot be told: with an accuracy at or below a
    chance above 0 (:func:`~lit_fed.metrics.above_chance`), and where the index divides by what is 0, as by the best
    accuracy on a task that was never right.

    Args:
        index: The index as a function of the accuracies; differentiable.
        accuracy: a, accuracies in [0, 1], any shape; NaN where nothing was evaluated.
        count: n, the test rows behind each, the same shape.

    Returns:
        A scalar, in the units of the index; NaN where the index is, and where it cannot be told.

    Example:
        >>> error = sampling_error(lambda a: 100 * a.mean(), torch.tensor([0.5, 0.5]), torch.tensor([100.0, 100.0]))
        >>> error  # 100 · √(0.25 / 100 / 2)
        tensor(3.5355)
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = accuracy.detach().clone().requires_grad_()
        value = index(leaf)
        if bool(value.isnan()):
            return value.detach()
        (slope,) = torch.autograd.grad(value, leaf)
    known = count > 0
    p = (count * accuracy + 0.5) / (count + 1)
    variance = torch.where(known, p * (1 - p) / count, 0.0)
    return (torch.where(known, slope, 0.0).square() * variance).sum().sqrt()
