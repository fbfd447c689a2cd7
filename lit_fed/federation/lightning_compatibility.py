"""Lightning compatibility: what callbacks written for Lightning's Trainer ask of it."""

from __future__ import annotations

from lightning.fabric.loggers import Logger
from lightning.pytorch.trainer.states import TrainerFn, TrainerState

from lit_fed.federation.federation_view import FederationView


class LightningCompatibility(FederationView):
    """A trainer as Lightning's own callbacks see it: a round is an epoch.

    So that, for instance, :class:`~lightning.pytorch.callbacks.EarlyStopping` on ``val/loss`` ends a
    federation, and its state is part of the checkpoint.
    """

    fitting: bool

    check_val_every_n_epoch = None
    """None: callbacks act when a validation ends, since an epoch has no end of its own."""

    val_check_interval = 1.0

    @property
    def current_epoch(self) -> int:
        """The round under way."""
        return self.federation.round

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
    def state(self) -> TrainerState:
        """Fitting, but not while a client's own model is validated: its metrics are not the federation's."""
        fitting = self.fitting and self.lightning_module.client is None
        return TrainerState(fn=TrainerFn.FITTING if fitting else TrainerFn.VALIDATING)

    @property
    def strategy(self) -> LightningCompatibility:
        """What reduces decisions over processes."""
        return self

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        """The decision as it is: every process evaluates the same global model."""
        return decision
