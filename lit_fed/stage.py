"""A stage: one of the parts, in turn, of a client's local training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer

from lit_fed.limits import require_none_or_at_least


@dataclass(frozen=True)
class Stage:
    """A part of a client's local training with its own rows, optimizer, schedule and number of steps.

    What a stage trains is chosen in :meth:`~lit_fed.FederatedModule.start_stage`, what it trains on in
    :meth:`~lit_fed.FederatedModule.local_data`. Its warm-up counts the stage's own steps.

    Args:
        name: Its name, unique within the method.
        optimizer: Makes its optimizer. None: the method's.
        warmup_steps: Linear warm-up over the stage's first own steps, counted across rounds. None: the
            method's.
        local_epochs: Passes over its rows in a round. None: the trainer's.
        local_steps: Optimizer steps in a round, which replace epochs. None: the trainer's, unless
            `local_epochs` is given.

    Raises:
        ValueError: If a number is below its least value.

    Example:
        >>> Stage("private", local_steps=4)
        Stage(name='private', optimizer=None, warmup_steps=None, local_epochs=None, local_steps=4)
    """

    name: str
    optimizer: Callable[[Any], Optimizer] | None = None
    warmup_steps: int | None = None
    local_epochs: int | None = None
    local_steps: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers."""
        for setting, least in (("warmup_steps", 0), ("local_epochs", 1), ("local_steps", 1)):
            require_none_or_at_least(f"stages.{self.name}.{setting}", getattr(self, setting), least)
