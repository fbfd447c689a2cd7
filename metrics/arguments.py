"""Arguments of the metrics, turned into tensors and indices, or refused in one clear line."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import SupportsIndex

import torch
from torch import Tensor

from lit_fed.metrics.running_sums import sum_dtype


def index_within(name: str, value: SupportsIndex, low: int, high: int) -> int:
    """Gives ``value`` as an int of ``[low, high)``.

    Args:
        name: The argument's name, for the message.
        value: An integer of any kind.
        low: Smallest value allowed.
        high: First value not allowed.

    Raises:
        TypeError: If ``value`` is no integer.
        ValueError: If it lies outside.

    Example:
        >>> index_within("task", 2, 0, 3)
        2
    """
    index = _integer(name, value)
    if not low <= index < high:
        raise ValueError(
            f"`{name}` is expected to be an integer from {low} to {high - 1}, but got {index}"
        )
    return index


def positive_integer(name: str, value: SupportsIndex, least: int = 1) -> int:
    """Gives ``value`` as an int of at least ``least``.

    Raises:
        TypeError: If ``value`` is no integer.
        ValueError: If it is smaller.

    Example:
        >>> positive_integer("num_tasks", 3)
        3
    """
    number = _integer(name, value)
    not_below(name, number, least)
    return number


def not_below(name: str, value: float, least: float) -> None:
    """Refuses a ``value`` below ``least``, and NaN.

    Raises:
        ValueError: If it is.

    Example:
        >>> not_below("threshold", -1.0, 0)
        Traceback (most recent call last):
        ValueError: `threshold` is expected to be at least 0, but got -1.0
    """
    if not value >= least:
        raise ValueError(f"`{name}` is expected to be at least {least}, but got {value}")


def _integer(name: str, value: SupportsIndex) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(
            f"`{name}` is expected to be an integer, but got {value!r} ({type(value).__name__})"
        ) from None


def one_of(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuses a ``value`` which is none of ``choices``.

    Raises:
        ValueError: If it is none of them.

    Example:
        >>> one_of("mode", "worst", ["macro", "worst"])
    """
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` is expected to be one of {known}, but got {value!r}")


def weighted_sum(
    value: Tensor | float, weight: Tensor | float, low: float, high: float, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Sums values and their weights.

    Args:
        value: Scores, any shape, or one number.
        weight: What each score counts for; broadcast against ``value``.
        low: Smallest score allowed.
        high: Largest score allowed.
        device: Where the sums are wanted.

    Returns:
        The sum of ``weight * value`` and of ``weight``, two scalars in float64 (float32 on MPS); both 0 for an empty
        ``value``.

    Raises:
        ValueError: If a score lies outside ``[low, high]``, or a weight is negative or not finite.

    Example:
        >>> weighted_sum(torch.tensor([True, False]), 1.0, 0.0, 1.0, torch.device("cpu"))
        (tensor(1., dtype=torch.float64), tensor(2., dtype=torch.float64))
        >>> weighted_sum(0.5, 10, 0.0, 1.0, torch.device("cpu"))
        (tensor(5., dtype=torch.float64), tensor(10., dtype=torch.float64))
    """
    dtype = sum_dtype(device)
    values = torch.as_tensor(value, device=device).detach().to(dtype)
    weights = torch.as_tensor(weight, device=device).detach().to(dtype)
    try:
        values, weights = torch.broadcast_tensors(values, weights)
    except RuntimeError:
        raise ValueError(
            f"`weight` is expected to be a number or to have the shape of `value`, "
            f"{list(values.shape)}, but has shape {list(weights.shape)}"
        ) from None
    # Written so that NaN is refused as well.
    outside = ~((values >= low) & (values <= high))
    if bool(outside.any()):
        raise ValueError(
            f"`value` is expected to lie from {low:g} to {high:g} (a share, not a percentage), "
            f"but got {values[outside][0].item():g}"
        )
    refused = ~((weights >= 0) & weights.isfinite())
    if bool(refused.any()):
        raise ValueError(
            "`weight` is expected to be finite and at least 0, "
            f"but got {weights[refused][0].item():g}"
        )
    return (values * weights).sum(), weights.sum()


def widened(values: Tensor) -> Tensor:
    """Gives ``values`` in a dtype that has fractions and room: float32, or the wider one that they are of.

    Example:
        >>> widened(torch.tensor([1, 2])).dtype, widened(torch.ones(1, dtype=torch.float64)).dtype
        (torch.float32, torch.float64)
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))


def square_matrix(name: str, matrix: Tensor) -> Tensor:
    """Refuses what is no [T, T] matrix of floating point numbers.

    Raises:
        ValueError: If ``matrix`` has another shape.
        TypeError: If it holds no floating point numbers.

    Example:
        >>> square_matrix("accuracy", torch.eye(2)).shape
        torch.Size([2, 2])
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(
            f"`{name}` is expected to have shape [tasks, tasks], but has {list(matrix.shape)}"
        )
    if not matrix.is_floating_point():
        raise TypeError(
            f"`{name}` is expected to hold floating point numbers, but holds {matrix.dtype}"
        )
    return matrix
