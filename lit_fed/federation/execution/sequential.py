"""Clients one after the other on the one resident model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lit_fed.client import Client
from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.execution.execution import ClientExecution, Failed, Finished

if TYPE_CHECKING:
    from lit_fed.federation.trainer import FederatedTrainer


class SequentialClients(ClientExecution):
    """One client at a time; K clients cost K adapters and one model."""

    takes_compiled = True

    def check(self, trainer: FederatedTrainer) -> None:
        """There is nothing it cannot do; see :class:`ClientExecution`."""

    def training(self, trainer: FederatedTrainer) -> LocalTraining:
        """What trains a client on the resident module."""
        return LocalTraining(trainer, trainer.resident)

    def run(
        self, trainer: FederatedTrainer, clients: Sequence[Client]
    ) -> Iterator[Finished | Failed]:
        """Train the clients in order; see :class:`ClientExecution`.

        A client whose training raises, or whose loss or upload is not finite, is yielded as failed.
        """
        training = self.training(trainer)
        for client in clients:
            try:
                yield training.run(client)
            except (
                Exception
            ) as error:  # a client must not bring the federation down, whatever it does
                yield Failed(client, error)
            finally:
                trainer.lightning_module.metric_averager = None
