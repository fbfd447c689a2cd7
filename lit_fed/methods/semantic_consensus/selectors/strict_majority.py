"""Strict majority: whether a share of the vote weight is more than half of it."""

from __future__ import annotations

from typing import Final

# Weights come in single precision: 0.1 + 0.2 against 0.3 is a tie.
_ROUNDING: Final = 1e-6


def is_strict_majority(share: float) -> bool:
    """Whether a share of the weight of those who have voted is more than half, by more than rounding.

    Args:
        share: In [0, 1].

    Example:
        >>> is_strict_majority(2 / 3), is_strict_majority((0.1 + 0.2) / 0.6)
        (True, False)
    """
    return share > 0.5 + _ROUNDING
