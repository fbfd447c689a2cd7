"""Rising margin: strict at first, and then more and more lenient."""

from __future__ import annotations

from lit_fed.limits import require_at_least
from lit_fed.losses.prototype_margin import require_margin
from lit_fed.prototypes.margins.margin_schedule import MarginSchedule


class RisingMargin(MarginSchedule):
    """The margin rises linearly over the first rounds to its last value, where it stays.

    "Adaptive margin scheduling, where the threshold is gradually increased" of Bergman et al., §4.

    Args:
        end: The last margin, in [0, 2).
        rounds: After how many rounds it is reached, at least 1.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> schedule = RisingMargin(end=0.9, rounds=2)
        >>> [round(schedule(0.3, n), 2) for n in range(4)]
        [0.3, 0.6, 0.9, 0.9]
    """

    def __init__(self, end: float, rounds: int) -> None:
        self.end = require_margin("model.margin_schedule.end", end)
        self.rounds = require_at_least("model.margin_schedule.rounds", rounds, 1)

    def __call__(self, margin: float, round: int) -> float | None:
        """Between the two; see the base class."""
        return margin + (self.end - margin) * min(1.0, round / self.rounds)
