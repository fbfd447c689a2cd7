"""Progress: how far the consensus has come, as the server keeps it between rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
        answered: How many answers a client has given in all of them together at most, by the ε of each; None where
            they had no noise.
        first: The round of the first one, counted from 0. None: there was none.
        losses: The mean validation loss of the clients of each round, as far as the warm-up goes by it.
        answers: What each client has answered last, see ``AnswerMemory``; nothing where that is not needed.
    """

    rounds: int = 0
    made: int = 0
    answered: Mapping[float | None, int] = field(default_factory=dict)
    first: int | None = None
    losses: tuple[float, ...] = ()
    answers: Payload = field(default_factory=Payload)

    @property
    def has_noise(self) -> bool:
        """Whether clients have given answers with noise, of which somebody wants to know what they have spent."""
        return any(epsilon is not None for epsilon in self.answered)

    @property
    def epsilon(self) -> float:
        """ε of all answers of a client together at most, as it adds up; infinite where some had no noise."""
        each = ((math.inf if e is None else e, count) for e, count in self.answered.items())
        return math.fsum(epsilon * count for epsilon, count in each)

    def after(
        self,
        trained: Sequence[Update],
        needs_losses: bool,
        answered: int | None,
        epsilon: float | None = None,
    ) -> Progress:
        """One round further.

        Args:
            trained: The updates of those of the round's clients that train; in a round of none there is no loss.
            needs_losses: Whether the warm-up goes by the clients' validation.
            answered: How many prompts each client has answered in it. None: nobody was asked.
            epsilon: ε of each of these answers. None: they have no noise.

        Raises:
            ValueError: If no client tells of its validation, and it is needed.
        """
        losses, first = self.losses, self.first
        if needs_losses and first is None and trained:
            told = [update.metrics[LOSS] for update in trained if LOSS in update.metrics]
            if not told:
                raise ValueError(
                    f"`model.warmup_rounds` is expected to be a number where no client tells its {LOSS}, but got null"
                )
            losses = (*losses, sum(told) / len(told))
        made, counts = self.made, dict(self.answered)
        if answered is not None:
            first = self.rounds if first is None else first
            made += 1
            if answered:
                counts[epsilon] = counts.get(epsilon, 0) + answered
        return Progress(self.rounds + 1, made, counts, first, losses, self.answers)

    def payload(self) -> Payload:
        """All of it; read again by :meth:`read`.

        Example:
            >>> progress = Progress(rounds=3, answered={0.5: 20, None: 5}, losses=(0.5, 0.25))
            >>> Progress.read(progress.payload()) == progress
            True
        """
        first = -1 if self.first is None else self.first
        # an ε is above 0, which stands for no noise
        answered = [(epsilon or 0.0, float(count)) for epsilon, count in self.answered.items()]
        tensors = {
            "counts": torch.tensor([self.rounds, self.made, first]),
            "answered": torch.tensor(answered, dtype=torch.float64).reshape(-1, 2),
            "losses": torch.tensor(self.losses, dtype=torch.float64),
        }
        return Payload(tensors, parts={"answers": self.answers})

    @classmethod
    def read(cls, payload: Payload) -> Progress:
        """What :meth:`payload` gave; of nothing, as where nobody has finished a round yet, the beginning."""
        if not payload:
            return cls()
        rounds, made, *asked, first = payload.tensors["counts"].tolist()
        if "answered" in payload.tensors:
            held = payload.tensors["answered"].tolist()
        else:  # of a checkpoint from before ε was kept: what is not known is no noise
            held = [(0.0, count) for count in asked if count]
        answered = {epsilon or None: round(count) for epsilon, count in held}
        losses = tuple(payload.tensors["losses"].tolist())
        answers = payload.parts.get("answers", Payload())
        return cls(rounds, made, answered, None if first < 0 else first, losses, answers)
