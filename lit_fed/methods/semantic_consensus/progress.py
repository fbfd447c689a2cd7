"""Progress: how far the consensus has come, as the server keeps it between rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lit_fed.payload import Payload
from lit_fed.update import Update

LOSS = "val/loss"
"""The metric of a client's validation by which the warm-up ends."""


@dataclass(frozen=True)
class Progress:
    """What the server keeps.

    Attributes:
        rounds: Rounds that have been aggregated.
        made: How many consensuses there have been.
        asked: How many prompts a client has been asked in all of them together.
        first: The round of the first one, counted from 0. None: there was none.
        losses: The mean validation loss of the clients of each round, as far as the warm-up goes by it.
        answers: What each client has answered last, see ``AnswerMemory``; nothing where that is not needed.
    """

    rounds: int = 0
    made: int = 0
    asked: int = 0
    first: int | None = None
    losses: tuple[float, ...] = ()
    answers: Payload = field(default_factory=Payload)

    def after(
        self, updates: Sequence[Update], needs_losses: bool, answered: int | None
    ) -> Progress:
        """One round further.

        Args:
            updates: The round's.
            needs_losses: Whether the warm-up goes by the clients' validation.
            answered: How many prompts each client has answered in it. None: nobody was asked.

        Raises:
            ValueError: If no client tells of its validation, and it is needed.
        """
        losses, first = self.losses, self.first
        if needs_losses and first is None:
            told = [update.metrics[LOSS] for update in updates if LOSS in update.metrics]
            if not told:
                raise ValueError(
                    f"`model.warmup_rounds` is expected to be a number where no client tells its {LOSS}, as with "
                    f"`trainer.limit_val_batches` 0, but got null"
                )
            losses = (*losses, sum(told) / len(told))
        made, asked = self.made, self.asked
        if answered is not None:
            first = self.rounds if first is None else first
            made, asked = made + 1, asked + answered
        return Progress(self.rounds + 1, made, asked, first, losses, self.answers)

    def payload(self) -> Payload:
        """All of it; read again by :meth:`read`.

        Example:
            >>> progress = Progress(rounds=3, losses=(0.5, 0.25))
            >>> Progress.read(progress.payload()) == progress
            True
        """
        first = -1 if self.first is None else self.first
        tensors = {
            "counts": torch.tensor([self.rounds, self.made, self.asked, first]),
            "losses": torch.tensor(self.losses, dtype=torch.float64),
        }
        return Payload(tensors, parts={"answers": self.answers})

    @classmethod
    def read(cls, payload: Payload) -> Progress:
        """What :meth:`payload` gave."""
        rounds, made, asked, first = payload.tensors["counts"].tolist()
        losses = tuple(payload.tensors["losses"].tolist())
        answers = payload.parts.get("answers", Payload())
        return cls(rounds, made, asked, None if first < 0 else first, losses, answers)
