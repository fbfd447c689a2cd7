"""Early margin: a constraint of the first rounds alone."""

from __future__ import annotations

from lit_fed.limits import require_at_least
from lit_fed.prototypes.margins.margin_schedule import MarginSchedule


class EarlyMargin(MarginSchedule):
    """The margin holds in the first rounds and is off afterwards.

    "During the early phases of distillation when the student is most vulnerable", Bergman et al., §4.

    Args:
        rounds: How many, at least 1.

    Raises:
        ValueError: If it is below 1.

    Example:
        >>> schedule = EarlyMargin(rounds=2)
        >>> [schedule(0.3, n) for n in range(3)]
        [0.3, 0.3, None]
    """

    def __init__(self, rounds: int) -> None:
        self.rounds = require_at_least("model.margin_schedule.rounds", rounds, 1)

    def __call__(self, margin: float, round: int) -> float | None:
        """The margin, and later none; see the base class."""
        return margin if round < self.rounds else None
