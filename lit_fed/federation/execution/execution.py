"""The interface of an execution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lit_fed.client import Client
from lit_fed.federation.state import ClientState
from lit_fed.update import Update

if TYPE_CHECKING:
    from lit_fed.federation.trainer import FederatedTrainer


@dataclass(frozen=True)
class Finished:
    """A client that has done its round: what it sent, and what stays with it."""

    update: Update
    state: ClientState


@dataclass(frozen=True)
class Failed:
    """A client that is left out of the round, and why."""

    client: Client
    error: Exception


class ClientExecution(ABC):
    """Trains a round's clients, the ``execution`` argument of the trainer."""

    @abstractmethod
    def check(self, trainer: FederatedTrainer) -> None:
        """Say before anything starts what this execution cannot do.

        Raises:
            ValueError: If the trainer is set up for something else.
        """

    @abstractmethod
    def run(
        self, trainer: FederatedTrainer, clients: Sequence[Client]
    ) -> Iterator[Finished | Failed]:
        """Train ``clients`` from the trainer's state, which stays as it is.

        Yields:
            One result per client, in their order.
        """
