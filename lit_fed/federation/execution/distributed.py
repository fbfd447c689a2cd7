"""Different clients in different processes."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lightning.fabric.strategies import Strategy

from lit_fed.client import Client
from lit_fed.federation.execution.client_results import pack_results, unpack_results
from lit_fed.federation.execution.collectives import ProcessLost
from lit_fed.federation.execution.execution import ClientExecution, Failed, Finished
from lit_fed.federation.execution.multi_process import MultiProcessExecution
from lit_fed.federation.execution.process_group import ClientParallelStrategy
from lit_fed.federation.execution.sequential import SequentialClients

if TYPE_CHECKING:
    from lit_fed.federation.trainer import FederatedTrainer


class DistributedClients(MultiProcessExecution):
    """Each process trains a share of the round's clients with the whole model.

    The processes are those of ``trainer.devices`` and ``trainer.num_nodes``, which Fabric starts, or
    ``torchrun``. Shares are balanced by the clients' optimizer steps. At the end of a round every
    process gets every result, so that each holds the whole state and can train any client next. All
    aggregate and evaluate alike, and then take over the first process's numbers: kernels of a GPU need
    not be exact to the last bit, and processes that drift apart would train different models. Only the
    first one writes files.

    Because random numbers depend on (seed, round, client) alone, a run gives the same whatever the
    number of processes, which may be another after each resume. All of them read the checkpoint, so
    machines share the run's folder. A callback's hooks of a client's training are called in
    the process that trains it, all others in every process.

    Args:
        each: How a process runs its share. None: :class:`SequentialClients`.
        timeout: Seconds that a process waits for the slowest of the others, at least as long as their
            shares may differ. A process that dies is noticed sooner, by its closed connections.

    Raises:
        ValueError: If ``timeout`` is not above 0, or ``each`` is for many processes itself.
    """

    def __init__(self, each: ClientExecution | None = None, timeout: float = 3600.0) -> None:
        super().__init__(timeout)
        self.each = each or SequentialClients()
        if type(self.each).check_processes is not ClientExecution.check_processes:
            raise ValueError(
                "`trainer.execution.each` is expected to run clients in one process, but got "
                f"{type(self.each).__name__}"
            )
        self._strategy = ClientParallelStrategy(timeout)

    def strategy(self, given: str | Strategy) -> Strategy:
        """Processes without averaged gradients; see :class:`ClientExecution`."""
        if given not in ("auto", "ddp") and given is not self._strategy:
            raise ValueError(
                "`trainer.strategy` is expected to be auto or ddp with DistributedClients, whose processes "
                f"train different clients and share no gradient, but got {given!r:.60}"
            )
        return self._strategy

    def check(self, trainer: FederatedTrainer) -> None:
        """What the inner execution cannot do; see :class:`ClientExecution`."""
        self.each.check(trainer)

    def setup_module(self, trainer: FederatedTrainer) -> Any:
        """As the inner execution does; see :class:`ClientExecution`."""
        return self.each.setup_module(trainer)

    def run(
        self, trainer: FederatedTrainer, clients: Sequence[Client]
    ) -> Iterator[Finished | Failed]:
        """Train this process's share and get the others'; see :class:`ClientExecution`.

        Raises:
            ProcessLost: If another process has died.
        """
        shares = balanced([local_work(trainer, c) for c in clients], trainer.fabric.world_size)
        own = shares[trainer.fabric.global_rank]
        results: dict[int, Finished | Failed] = {}
        mine = [clients[position] for position in own]
        for position, result in zip(own, self.each.run(trainer, mine), strict=True):
            results[position] = result
            if self._strategy.loss is not None:
                raise ProcessLost(self._strategy.loss)
        if trainer.fabric.world_size > 1:
            collectives = self.collectives
            packed = pack_results(results)
            for source, data in enumerate(collectives.gather(packed)):
                if source != collectives.rank:
                    results |= unpack_results(data, clients)
        for position in range(len(clients)):
            yield results.pop(position)


def balanced(work: Sequence[float], shares: int) -> list[list[int]]:
    """Divide pieces of work so that the largest share is small: longest processing time first.

    Graham, "Bounds on Multiprocessing Timing Anomalies", 1969, https://doi.org/10.1137/0117039: at
    most 4/3 of the best possible. The same work is always divided alike.

    Args:
        work: Size of each piece.
        shares: Number of shares, at least 1.

    Returns:
        For each share the positions of its pieces, ascending.

    Example:
        >>> balanced([5, 4, 3, 3, 3], 2)
        [[0, 3], [1, 2, 4]]
    """
    divided: list[list[int]] = [[] for _ in range(shares)]
    loads = [(0.0, share) for share in range(shares)]
    for position in sorted(range(len(work)), key=lambda p: (-work[p], p)):
        load, share = heapq.heappop(loads)
        divided[share].append(position)
        heapq.heappush(loads, (load + work[position], share))
    return [sorted(positions) for positions in divided]


def local_work(trainer: FederatedTrainer, client: Client) -> float:
    """Batches that a client's round takes, as far as its rows tell."""
    if trainer.local_steps is not None:
        return float(trainer.local_steps * trainer.accumulate_grad_batches)
    batches = math.ceil(client.num_samples / trainer.datamodule.batch_size)
    limit = trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    return float(batches * trainer.local_epochs)
