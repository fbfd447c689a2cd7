"""The interface of an execution: how the clients of a round are run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lightning.fabric import Fabric
from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.process_state import undisturbed
from lit_fed.federation.client.results import ClientRound, Failed, Finished
from lit_fed.federation.state import FederationState
from lit_fed.module import FederatedModule
from lit_fed.payload import Payload

if TYPE_CHECKING:
    from lightning.fabric.strategies import Strategy

Prepared = Callable[[Client, Payload], None]


class ClientExecution(ABC):
    """Runs a round's clients, the ``execution`` argument of the trainer.

    It knows clients, their rows and their training, but no trainer and no server. One that works in a
    single process has only :meth:`check` and :meth:`run` to write. One of many processes also says how
    they come to agree.
    """

    takes_compiled: ClassVar[bool] = False
    """Whether it runs models whose layers are compiled."""
    takes_gradients: ClassVar[bool] = True
    """Whether a module gets the gradients of single terms of its loss."""
    takes_privacy: bool = False
    """Whether clients can train with ``trainer.privacy``; one that makes a training of its own would lose it."""

    @abstractmethod
    def run(
        self, training: LocalTraining, starts: Sequence[ClientRound]
    ) -> Iterator[Finished | Failed]:
        """Run clients' rounds.

        Args:
            training: Runs a client's round on the resident module.
            starts: What each client starts from.

        Yields:
            One result per client, in their order.
        """

    @abstractmethod
    def check(self, fabric: Fabric) -> None:
        """Say before anything starts what this execution cannot do; of processes see below.

        Raises:
            ValueError: If Fabric is set up for something else.
        """

    # Not abstract: most executions run every method.
    def check_method(self, module: FederatedModule) -> None:  # noqa: B027
        """Say before anything trains what of a method this execution cannot do. Default: it can do all.

        Args:
            module: The method.

        Raises:
            ValueError: If there is something.
        """

    def prepare(
        self, training: LocalTraining, starts: Sequence[ClientRound], prepared: Prepared
    ) -> dict[str, Payload]:
        """Let clients prepare, each before a round. Default: one after the other.

        A client that fails is named, and is not in the result.

        Args:
            training: Runs a client's preparation on the resident module.
            starts: What each client starts from.
            prepared: Is called in the process in which a client has prepared, as soon as it has.

        Returns:
            What they prepared, by their ids.
        """
        results = {}
        for start in starts:
            client = start.client
            try:
                with undisturbed(training.fabric.device.type):
                    results[client.id] = training.prepare(start)
            except Exception as error:
                if error is training.events.raised:
                    raise
                if isinstance(error, ConfigurationError):
                    raise
                told = Failed(client, error).error
                rank_zero_warn(f"client {client.id!r} could not prepare: {told}")
            else:
                prepared(client, results[client.id])
        return results

    # ---------------------------------------------------------------- processes

    def strategy(self, given: str | Strategy) -> str | Strategy:
        """The strategy that Fabric gets where the user asks for ``given``. Default: that one.

        Raises:
            ValueError: If ``given`` makes no sense with this execution.
        """
        return given

    def check_processes(self, processes: int) -> None:
        """Say whether this execution can run in so many processes. Default: in a single one.

        Raises:
            ValueError: If it cannot.
        """
        if processes > 1:
            raise ValueError(
                f"`trainer.execution` {type(self).__name__} runs in one process, but `trainer.devices` "
                f"and `trainer.num_nodes` ask for {processes}; give them to "
                "lit_fed.federation.DistributedClients or lit_fed.federation.ShardedClients"
            )

    def setup_module(self, fabric: Fabric, module: FederatedModule) -> Any:
        """Put the module on its device. Default: as Fabric's strategy does.

        Returns:
            The module in Fabric's wrapper.
        """
        return fabric.setup(module)

    def of_first_process(self, value: Any) -> Any:
        """What the first process has for ``value``, in all of them. Default: there is only one.

        Args:
            value: Anything JSON can hold.
        """
        return value

    def settle(self, state: FederationState) -> FederationState:
        """The state that all processes go on with, at the start and after each round. Default: there is only one."""
        return state
