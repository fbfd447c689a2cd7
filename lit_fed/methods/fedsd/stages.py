"""Stages of which each setting is an argument of a method's constructor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from lit_fed.limits import require_none_or_at_least
from lit_fed.stage import Stage


def stage_of(
    name: str,
    optimizer: Callable[[Any], Optimizer] | None = None,
    warmup_steps: int | None = None,
    epochs: int | None = None,
    steps: int | None = None,
) -> Stage:
    """A stage, whose settings errors call ``model.<name>_steps`` and so on, as the constructor does.

    Args:
        name: Its name.
        optimizer: As in :class:`~lit_fed.stage.Stage`.
        warmup_steps: Likewise.
        epochs: Passes over its rows in a round.
        steps: Optimizer steps in a round.

    Raises:
        ValueError: If a number is below its least value.

    Example:
        >>> stage_of("private", steps=4).local_steps
        4
    """
    given = {"warmup_steps": (warmup_steps, 0), "epochs": (epochs, 1), "steps": (steps, 1)}
    for setting, (value, least) in given.items():
        require_none_or_at_least(f"model.{name}_{setting}", value, least)
    return Stage(name, optimizer, warmup_steps, epochs, steps)
