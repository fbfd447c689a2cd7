"""Limits of numbers that settings give."""

from __future__ import annotations


def require_at_least(setting: str, value: int | None, least: int) -> None:
    """Raise unless a number, where there is one, is large enough.

    Args:
        setting: The setting, as in YAML.
        value: What it gives.
        least: The smallest number allowed.

    Raises:
        ValueError: If it is smaller.

    >>> require_at_least("data.num_clients", 0, 1)
    Traceback (most recent call last):
    ValueError: `data.num_clients` is expected to be at least 1, but got 0
    """
    if value is not None and value < least:
        raise ValueError(f"`{setting}` is expected to be at least {least}, but got {value}")


def require_positive(setting: str, value: float) -> None:
    """Raise unless a number is above 0 and finite.

    Args:
        setting: The setting, as in YAML.
        value: What it gives.

    Raises:
        ValueError: If it is not.

    >>> require_positive("data.partitioner.alpha", -1.0)
    Traceback (most recent call last):
    ValueError: `data.partitioner.alpha` is expected to be finite and above 0, but got -1.0
    """
    if not 0 < value < float("inf"):
        raise ValueError(f"`{setting}` is expected to be finite and above 0, but got {value}")


def require_fraction(setting: str, value: float) -> None:
    """Raise unless a number is a fraction that leaves something.

    Args:
        setting: The setting, as in YAML.
        value: What it gives.

    Raises:
        ValueError: If it is below 0, or 1 or more.

    >>> require_fraction("data.validation_fraction", 1.0)
    Traceback (most recent call last):
    ValueError: `data.validation_fraction` is expected to be at least 0 and below 1, but got 1.0
    """
    if not 0 <= value < 1:
        raise ValueError(f"`{setting}` is expected to be at least 0 and below 1, but got {value}")
