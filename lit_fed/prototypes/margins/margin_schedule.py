"""Margin schedule: how far from its prototype a representation may be in each round."""

from __future__ import annotations

from abc import ABC, abstractmethod


class MarginSchedule(ABC):
    """The margin m of each round, of the m that a method begins with."""

    @abstractmethod
    def __call__(self, margin: float, round: int) -> float | None:
        """The margin of a round.

        Args:
            margin: The method's own.
            round: From 0.

        Returns:
            m in [0, 2); None: the margin is off in this round, and costs nothing.
        """
