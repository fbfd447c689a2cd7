"""The hooks of a federated run, beside Lightning's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

if TYPE_CHECKING:
    from rich.table import Table

    from lit_fed.client import Client
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule
    from lit_fed.payload import Payload
    from lit_fed.update import Update


class FederatedCallback(Callback):
    """A callback that also sees rounds and clients; every hook does nothing unless overridden.

    A :class:`lightning.pytorch.Callback` works in a federated run, where a round is an epoch; this class
    adds the rounds' hooks. Those of Lightning's own that a federation has no place for are refused. Its
    hooks are typed with its Trainer: annotate them as ``Any``.

    During a fit the order is ``setup``, ``on_fit_start``, per client ``on_client_prepared`` where a
    method's clients prepare, ``on_train_start``, then per round ``on_train_epoch_start``,
    ``on_round_start``, per
    client ``on_client_start``, ``on_train_batch_end``… and ``on_client_end`` or
    ``on_client_failed``, then ``on_aggregate_end``, ``on_validation_start``, ``on_validation_end``,
    ``on_round_evaluation``, ``on_round_report``, ``on_train_epoch_end`` and ``on_round_end``; at last
    ``on_train_end``, ``on_fit_end`` and ``teardown``. From
    ``on_round_evaluation`` on ``trainer.federation`` includes the round; from ``on_round_report`` on it is
    finished. What ``state_dict`` returns (tensors and what JSON takes) is kept in checkpoints.

    What a callback publishes of a round belongs into ``on_round_report``: where a run is broken off between the
    end of a round and its report, the run that goes on calls it, after ``on_fit_start``, with what the callback's
    ``state_dict`` has kept of the round.

    Example:
        >>> class Cheapest(FederatedCallback):
        ...     def on_round_end(self, trainer, module, metrics):
        ...         self.best = min(metrics["bytes/up"], getattr(self, "best", float("inf")))
        >>> callback = Cheapest()
        >>> callback.on_round_end(None, None, {"bytes/up": 96.0})
        >>> callback.best
        96.0
    """

    @staticmethod
    def run_folder(trainer: FederationView) -> Path | None:
        """The folder that this process may write the run's files to, or None.

        None under ``fast_dev_run``, which leaves no files, and on every process but the first.
        """
        if trainer.fast_dev_run or not trainer.is_global_zero:
            return None
        return trainer.log_dir

    def on_client_prepared(
        self, trainer: FederationView, module: FederatedModule, client: Client, prepared: Payload
    ) -> None:
        """Called when a client has prepared, in the process in which it has."""

    def on_round_start(
        self, trainer: FederationView, module: FederatedModule, clients: Sequence[Client]
    ) -> None:
        """Called when a round's clients are sampled, before the first of them starts."""

    def on_client_start(
        self, trainer: FederationView, module: FederatedModule, client: Client
    ) -> None:
        """Called before a client trains."""

    def on_client_end(
        self, trainer: FederationView, module: FederatedModule, update: Update
    ) -> None:
        """Called with what a client sent, before the server has judged how plausible it is beside the others'."""

    def on_client_failed(
        self,
        trainer: FederationView,
        module: FederatedModule,
        client: Client,
        error: BaseException,
    ) -> None:
        """Called when a client is left out of its round, with the reason; also after ``on_client_end``."""

    def on_aggregate_end(
        self, trainer: FederationView, module: FederatedModule, updates: Sequence[Update]
    ) -> None:
        """Called when the server has combined the round's updates."""

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Called when a round's model is there, with the round's row of the history: add to it."""

    def on_round_report(
        self, trainer: FederationView, module: FederatedModule, metrics: Mapping[str, float]
    ) -> None:
        """Called when a round is to be published, with its row of the history; once more where that was broken off."""

    def on_round_end(
        self, trainer: FederationView, module: FederatedModule, metrics: Mapping[str, float]
    ) -> None:
        """Called when a round is finished, with its row of the history."""

    def closing_table(self, trainer: FederationView) -> Table | None:
        """A table that is printed behind the run's summary. Default: none."""
        return None

    def summarised(self, trainer: FederationView) -> dict[str, Any]:
        """What the run's summary has of this callback, of what JSON takes. Default: nothing."""
        return {}
