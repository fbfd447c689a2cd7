"""The check of a method's hyperparameters."""

from __future__ import annotations

from lit_fed.limits import require_at_least, require_non_negative, require_positive


def at_least(value: float, bound: float, name: str, strictly: bool = False) -> float:
    """``value``, if it is finite and at least ``bound``; kept until the methods ask ``lit_fed.limits``."""
    setting = f"model.{name}"
    if strictly:
        return require_positive(setting, value)
    if bound:
        return require_at_least(setting, int(value), int(bound))
    return require_non_negative(setting, value)
