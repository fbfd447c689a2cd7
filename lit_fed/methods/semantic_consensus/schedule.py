"""When clients answer the public prompts: the warm-up, every how many rounds, and how often in all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.configuration_error import ConfigurationError
from lit_fed.limits import require_at_least, require_none_or_at_least

_LEAST_WARMUP: Final = 3


class ConsensusSchedule:
    """In which rounds clients answer at the end of their training.

    A label that is made before clients have learnt anything locks their errors in, so they first train alone.

    Args:
        warmup_rounds: Rounds of local training before the first answers, at least 1: with 3, clients answer at the end
            of the third. None: they answer in the round after the mean validation loss of the round's clients was no
            longer below its least value, after three rounds at the earliest.
        consensus_every: b, every how many rounds they answer from then on.
        consensus_rounds: How often in all. 1: once. 0: never, each client stays alone. None: to the end.

    Raises:
        ValueError: If a number is below its least value, or no whole one.

    Example:
        >>> schedule = ConsensusSchedule(warmup_rounds=2, consensus_every=2, consensus_rounds=2)
        >>> schedule.is_due(0, None, 0, []), schedule.is_due(1, None, 0, [])
        (False, True)
        >>> schedule.is_due(2, 1, 1, []), schedule.is_due(3, 1, 1, []), schedule.is_due(5, 1, 2, [])
        (False, True, False)
        >>> schedule = ConsensusSchedule(warmup_rounds=None, consensus_every=2, consensus_rounds=None)
        >>> schedule.is_due(3, None, 0, [0.9, 0.7, 0.5]), schedule.is_due(4, None, 0, [0.9, 0.7, 0.5, 0.6])
        (False, True)
    """

    def __init__(
        self, warmup_rounds: int | None, consensus_every: int, consensus_rounds: int | None
    ) -> None:
        self.warmup_rounds = require_none_or_at_least("model.warmup_rounds", warmup_rounds, 1)
        self.every = require_at_least("model.consensus_every", consensus_every, 1)
        self.most = require_none_or_at_least("model.consensus_rounds", consensus_rounds, 0)

    @property
    def needs_losses(self) -> bool:
        """Whether the warm-up goes by what clients tell of their validation."""
        return self.warmup_rounds is None and self.most != 0

    def check_rounds(self, rounds: int) -> None:
        """Say before training that a run ends before clients are asked.

        Args:
            rounds: Those of the run.

        Raises:
            ValueError: If it does, and they are to be asked at all.

        Example:
            >>> ConsensusSchedule(warmup_rounds=3, consensus_every=2, consensus_rounds=0).check_rounds(2)
            >>> ConsensusSchedule(warmup_rounds=3, consensus_every=2, consensus_rounds=1).check_rounds(2)
            Traceback (most recent call last):
            ValueError: `model.warmup_rounds` is expected to be at most `trainer.max_rounds`, which is 2, but got 3
        """
        if self.most != 0 and self.warmup_rounds is not None and self.warmup_rounds > rounds:
            raise ValueError(
                f"`model.warmup_rounds` is expected to be at most `trainer.max_rounds`, which is {rounds}, but got "
                f"{self.warmup_rounds}"
            )

    def check_asked(self, made: int) -> None:
        """Say of a run that goes on by other settings that its next round asks for answers which these forbid.

        A checkpoint holds whether clients are asked in the round behind it.

        Args:
            made: How many consensuses there have been.

        Raises:
            ConfigurationError: If there have been as many as there may be.

        Example:
            >>> ConsensusSchedule(warmup_rounds=1, consensus_every=1, consensus_rounds=3).check_asked(made=2)
            >>> ConsensusSchedule(warmup_rounds=1, consensus_every=1, consensus_rounds=2).check_asked(made=2)
            Traceback (most recent call last):
            ...
            lit_fed.configuration_error.ConfigurationError: `model.consensus_rounds` is expected to be at least 3 ...
        """
        if self.most is not None and made >= self.most:
            raise ConfigurationError(
                f"`model.consensus_rounds` is expected to be at least {made + 1} in a run that goes on here, whose "
                f"checkpoint asks clients for answers once more, but got {self.most}; an earlier checkpoint may not"
            )

    def warn_of_none(self, rounds: int, first: int | None) -> None:
        """Say at the end of a run that clients have never been asked, though they were to be.

        Args:
            rounds: How many there have been.
            first: The round of the first consensus. None: there was none.
        """
        if self.most == 0 or first is not None:
            return
        given = "null" if self.warmup_rounds is None else self.warmup_rounds
        why = f"`model.warmup_rounds` is {given}"
        if self.warmup_rounds is None:
            why += (
                ", by which they answer in the round after their mean validation loss has stopped falling, from the "
                f"{_LEAST_WARMUP + 1}th on"
            )
        rank_zero_warn(
            f"clients have never answered in the run's rounds ({rounds}), and learnt from no label: {why}"
        )

    def is_due(
        self, next_round: int, first: int | None, made: int, losses: Sequence[float]
    ) -> bool:
        """Whether clients answer at the end of a round.

        Args:
            next_round: The round, counted from 0.
            first: The round of the first consensus. None: there was none.
            made: How many there have been.
            losses: The mean validation loss of each round so far.
        """
        if self.most is not None and made >= self.most:
            return False
        if first is not None:
            return (next_round - first) % self.every == 0
        if self.warmup_rounds is not None:
            return next_round + 1 >= self.warmup_rounds
        return len(losses) >= _LEAST_WARMUP and losses[-1] >= min(losses[:-1])
