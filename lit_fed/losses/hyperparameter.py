"""The check that loss mixins share."""

from __future__ import annotations

import math


def at_least(value: float, bound: float, name: str, strictly: bool = False) -> float:
    """``value``, if it is finite and at least ``bound``.

    Args:
        value: The hyperparameter.
        bound: Its least value.
        name: Its name under ``model.``.
        strictly: Whether ``bound`` itself is refused.

    Raises:
        ValueError: If it is not.

    Example:
        >>> at_least(-1.0, 0.0, "lambda_distill")
        Traceback (most recent call last):
        ...
        ValueError: `model.lambda_distill` is expected to be finite and at least 0, but got -1.0
    """
    if not math.isfinite(value) or value < bound or (strictly and value == bound):
        relation = "above" if strictly else "at least"
        raise ValueError(
            f"`model.{name}` is expected to be finite and {relation} {bound:g}, but got {value!r}"
        )
    return value
