"""The interface of an aggregation rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from lit_fed.payload import Payload
from lit_fed.update import Update


class Aggregation(ABC):
    """A rule that makes one payload of many, the ``aggregation`` argument of a method."""

    needs_validation: bool = False
    """Whether updates have to bring the metrics of each client's validation."""

    @abstractmethod
    def __call__(self, updates: Sequence[Update]) -> Payload:
        """Combine at least one update.

        Args:
            updates: One entry per client that finished the round, in the order of the clients.

        Returns:
            The combined payload.
        """
