"""Clients one after the other on the one resident model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightning.fabric import Fabric

from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.results import ClientRound, Failed, Finished
from lit_fed.federation.execution.execution import ClientExecution


class SequentialClients(ClientExecution):
    """One client at a time; K clients cost K adapters and one model."""

    takes_compiled = True
    takes_privacy = True

    def check(self, fabric: Fabric) -> None:
        """There is nothing it cannot do; see :class:`ClientExecution`."""

    def run(
        self, training: LocalTraining, starts: Sequence[ClientRound]
    ) -> Iterator[Finished | Failed]:
        """Train the clients in order; see :class:`ClientExecution`.

        A client whose training raises, or whose loss or upload is not finite, is yielded as failed.
        """
        for start in starts:
            yield training.attempt(start)
