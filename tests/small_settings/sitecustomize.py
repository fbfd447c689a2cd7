"""Makes every federation of a process as small as it can be; put on the path by the test of the README's commands."""

from functools import wraps
from typing import Any

from lit_fed.methods.semantic_consensus.schedule import ConsensusSchedule
from lit_fed.trainer import FederatedTrainer

_init = FederatedTrainer.__init__
_schedule = ConsensusSchedule.__init__


@wraps(_init)
def _small(self: FederatedTrainer, **settings: Any) -> None:
    # a command that goes on has more rounds than the one before
    settings["max_rounds"] = 1 if settings.get("max_rounds", 1) <= 20 else 2
    if settings.get("rounds_per_task"):
        settings["rounds_per_task"] = 1
    for stage in ("train", "val", "test", "predict"):
        settings[f"limit_{stage}_batches"] = 1
    _init(self, **settings)


FederatedTrainer.__init__ = _small  # type: ignore[method-assign]


@wraps(_schedule)
def _soon(self: ConsensusSchedule, warmup_rounds: int | None, *others: Any) -> None:
    # no warm-up is longer than the run
    _schedule(self, None if warmup_rounds is None else 1, *others)


ConsensusSchedule.__init__ = _soon  # type: ignore[method-assign]
