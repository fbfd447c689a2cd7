"""Lightning compatibility: what callbacks written for Lightning's Trainer ask of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from lightning.fabric.loggers import Logger
from lightning.pytorch.trainer.states import TrainerFn, TrainerState

from lit_fed.federation.federation_view import FederationView

if TYPE_CHECKING:
    import torch

Decided = TypeVar("Decided")


class LightningCompatibility(FederationView):
    """A trainer as Lightning's own callbacks see it: a round is an epoch, the federation is the fit.

    So that, for instance, :class:`~lightning.pytorch.callbacks.EarlyStopping` on ``val/loss`` ends a
    federation, and its state is part of the checkpoint. Callbacks get ``on_train_start`` before the first
    round, ``on_train_epoch_start`` and ``on_train_epoch_end`` around each round, and ``on_train_end`` after
    the last one; a module gets those of the same name in a client's round.
    """

    fitting: bool
    accumulate_grad_batches: int
    _uncounted = 0

    check_val_every_n_epoch = None
    """None: callbacks act when a validation ends, unless they are told to act at an epoch's end."""

    val_check_interval = 1.0

    @property
    def current_epoch(self) -> int:
        """The round under way."""
        return self.federation.round - self._uncounted

    @property
    def max_epochs(self) -> int:
        """Rounds of the federation."""
        return self.max_rounds

    @property
    def global_step(self) -> int:
        """Optimizer steps that all clients together have taken."""
        return sum(c.steps for c in self.federation.clients.values())

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        return self.loggers[0] if self.loggers else None

    @property
    def world_size(self) -> int:
        """Processes that take part."""
        return int(self.fabric.world_size)

    @property
    def global_rank(self) -> int:
        """The number of this process."""
        return int(self.fabric.global_rank)

    @property
    def state(self) -> TrainerState:
        """Fitting, but not while a client's own model is validated: its metrics are not the federation's."""
        fitting = self.fitting and self.lightning_module.client is None
        return TrainerState(fn=TrainerFn.FITTING if fitting else TrainerFn.VALIDATING)

    @property
    def strategy(self) -> LightningCompatibility:
        """What reduces decisions over processes."""
        return self

    @property
    def root_device(self) -> torch.device:
        """The device of this process."""
        return self.fabric.device

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        """The decision as it is: every process evaluates the same global model."""
        return decision

    def broadcast(self, value: Decided, src: int = 0) -> Decided:
        """The value as it is.

        Processes train different clients, and do not meet in their batches. When a round has ended, they
        take over the first one's decision to stop.
        """
        return value

    def start_epoch(self) -> None:
        """Tell callbacks that a round starts; what they make of ``accumulate_grad_batches`` holds in it."""
        self.events.report_to_callbacks(self.lightning_module, "on_train_epoch_start")
        training, batches = self._loop.training, self.accumulate_grad_batches
        if training.settings.accumulate_grad_batches != batches:
            training.settings = replace(training.settings, accumulate_grad_batches=batches)

    def end_epoch(self) -> None:
        """Tell callbacks that a round ends; as in Lightning it still is the epoch under way."""
        self._uncounted = 1
        try:
            self.events.report_to_callbacks(self.lightning_module, "on_train_epoch_end")
        finally:
            self._uncounted = 0
