"""Batch in step: which one a batch is of those whose gradients make one optimizer step."""

from __future__ import annotations

from typing import Final, NamedTuple


class BatchInStep(NamedTuple):
    """Which one a batch is of those whose gradients make one optimizer step.

    Example:
        >>> BatchInStep().ends, BatchInStep(1, 4).ends, BatchInStep(3, 4).ends
        (True, False, True)
    """

    number: int = 0
    """How many batches the step has taken before."""
    of: int = 1
    """How many it takes in all."""

    @property
    def ends(self) -> bool:
        """Whether the optimizer steps after it."""
        return self.number == self.of - 1

    def named(self, step: int) -> str:
        """What names the batch among all, for a draw of its own: the step's number and, behind the first, its own.

        Args:
            step: The step's number.

        Example:
            >>> BatchInStep().named(7), BatchInStep(1, 4).named(7)
            ('7', '7 1')
        """
        return f"{step} {self.number}" if self.number else str(step)


ONE_BATCH: Final = BatchInStep()
"""The batch of a step that takes no other."""
