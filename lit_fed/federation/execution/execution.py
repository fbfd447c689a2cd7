"""The interface of an execution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from lit_fed.client import Client
from lit_fed.federation.state import ClientState, FederationState
from lit_fed.update import Update

if TYPE_CHECKING:
    from lightning.fabric.strategies import Strategy

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
    """Trains a round's clients, the ``execution`` argument of the trainer.

    One that works in a single process has only :meth:`check` and :meth:`run` to write. One of many
    processes also says how they come to agree.
    """

    takes_compiled: ClassVar[bool] = False
    """Whether it runs models whose layers are compiled."""

    @abstractmethod
    def run(
        self, trainer: FederatedTrainer, clients: Sequence[Client]
    ) -> Iterator[Finished | Failed]:
        """Train ``clients`` from the trainer's state, which stays as it is.

        Yields:
            One result per client, in their order.
        """

    @abstractmethod
    def check(self, trainer: FederatedTrainer) -> None:
        """Say before anything starts what this execution cannot do; of processes see below.

        Raises:
            ValueError: If the trainer is set up for something else.
        """

    # ---------------------------------------------------------------- processes

    def strategy(self, given: str | Strategy) -> str | Strategy:
        """The strategy that Fabric gets where the user asks for ``given``. Default: that one.

        Raises:
            ValueError: If ``given`` makes no sense with this execution.
        """
        return given

    def check_processes(self, trainer: FederatedTrainer) -> None:
        """Say whether this execution can run in the trainer's processes. Default: in a single one.

        Raises:
            ValueError: If it cannot.
        """
        if trainer.fabric.world_size > 1:
            raise ValueError(
                f"`trainer.execution` {type(self).__name__} runs in one process, but `trainer.devices` "
                f"and `trainer.num_nodes` ask for {trainer.fabric.world_size}; give them to "
                "lit_fed.federation.DistributedClients or lit_fed.federation.ShardedClients"
            )

    def setup_module(self, trainer: FederatedTrainer) -> Any:
        """Put the trainer's module on its device. Default: as Fabric's strategy does.

        Returns:
            The module in Fabric's wrapper.
        """
        return trainer.fabric.setup(trainer.lightning_module)

    def of_first_process(self, trainer: FederatedTrainer, value: Any) -> Any:
        """What the first process has for ``value``, in all of them. Default: there is only one.

        Args:
            trainer: The trainer.
            value: Anything JSON can hold.
        """
        return value

    def settle(self, trainer: FederatedTrainer, state: FederationState) -> FederationState:
        """The state at the end of a round that all processes go on with. Default: there is only one."""
        return state
