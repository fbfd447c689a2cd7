"""Saying that something cannot be done for several clients at once."""

from __future__ import annotations


class CannotRunJointly(ValueError):
    """A method, model or setting does something that cannot be done for several clients at once.

    It ends the run, for what cannot be vectorised is never done in another way silently.

    Args:
        what: What it is.

    Example:
        >>> print(CannotRunJointly("`backbone.generate`"))
        `trainer.execution` VectorizedClients cannot run `backbone.generate` for several clients at
        once: use lit_fed.federation.SequentialClients
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f"`trainer.execution` VectorizedClients cannot run {what} for several clients at once: use "
            f"lit_fed.federation.SequentialClients"
        )
