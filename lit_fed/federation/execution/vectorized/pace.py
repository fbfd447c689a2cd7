"""Whether clients are faster together than one after the other, found out on their own rounds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_FEW: Final = 2  # clients of the first trial: where it is lost, little is lost


class Pace:
    """Tells how many clients are to be next, and learns from the time that they took.

    Every measurement is of rounds that have to be trained either way, so that a loser costs no more than what it is
    slower in one small group: a client alone that is not counted, since much is done for the first time, one alone,
    two together, and where these were faster as many as there may be, which decides.

    Args:
        size: How many clients there may be at once.

    Attributes:
        together: Whether clients are faster together; None until it is known.
        ratio: The time of clients together as a share of that alone, as last measured; None before.

    Example:
        >>> pace = Pace(8)
        >>> for _ in range(2):  # two clients of 100 rows, one after the other
        ...     pace.tell([100], seconds=3.0)
        >>> pace.next(waiting=8)
        2
        >>> pace.tell([100, 100], seconds=7.5)
        >>> pace.together, pace.ratio, pace.next(waiting=6)
        (False, 1.25, 1)
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.together: bool | None = None
        self.ratio: float | None = None
        self._alone: float | None = None
        self._warm = False

    def next(self, waiting: int) -> int:
        """How many of the clients that wait are to train next.

        Args:
            waiting: At least 1.
        """
        if self._alone is None or self.together is False:
            return 1
        if self.together is None and self.ratio is None:
            return min(_FEW, waiting, self.size)
        return min(waiting, self.size)

    def tell(self, rows: Iterable[int], seconds: float) -> None:
        """Learn from a group that has trained.

        Args:
            rows: How many rows each of its clients has trained on.
            seconds: The time of all together.
        """
        counts = list(rows)
        pace = seconds / max(sum(counts), 1)
        if len(counts) == 1:
            self._alone, self._warm = (pace if self._warm else None), True
        elif self._alone is not None:
            first = self.ratio is None
            self.ratio = pace / self._alone
            if self.ratio >= 1:
                self.together = False
            elif not first or len(counts) == self.size:
                self.together = True
