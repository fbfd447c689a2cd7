"""Different clients in different processes."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import Any

from lightning.fabric import Fabric
from lightning.fabric.strategies import Strategy

from lit_fed.client import Client
from lit_fed.federation.client.local_batches import limited
from lit_fed.federation.client.local_settings import LocalSettings
from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.results import (
    ClientRound,
    Failed,
    Finished,
    pack_results,
    unpack_results,
)
from lit_fed.federation.execution.collectives import ProcessLost
from lit_fed.federation.execution.execution import ClientExecution, Prepared
from lit_fed.federation.execution.multi_process import MultiProcessExecution, is_alone
from lit_fed.federation.execution.process_group import START, ClientParallelStrategy
from lit_fed.federation.execution.sequential import SequentialClients
from lit_fed.module import FederatedModule
from lit_fed.packing import pack, unpack
from lit_fed.payload import Payload


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
        start_timeout: Seconds that a process waits for all to start, each of which builds the model and reads
            the data before.

    Raises:
        ValueError: If ``timeout`` or ``start_timeout`` is not above 0, or ``each`` is for many processes itself.
    """

    def __init__(
        self,
        each: ClientExecution | None = None,
        timeout: float = 3600.0,
        start_timeout: float = START,
    ) -> None:
        super().__init__(timeout, start_timeout)
        self.each = each or SequentialClients()
        if type(self.each).check_processes is not ClientExecution.check_processes:
            raise ValueError(
                "`trainer.execution.each` is expected to run clients in one process, but got "
                f"{type(self.each).__name__}"
            )
        self.takes_privacy = self.each.takes_privacy
        self._strategy = ClientParallelStrategy(timeout, start_timeout)

    def strategy(self, given: str | Strategy) -> Strategy:
        """Processes without averaged gradients; see :class:`ClientExecution`."""
        if given not in ("auto", "ddp") and given is not self._strategy:
            raise ValueError(
                "`trainer.strategy` is expected to be auto or ddp with DistributedClients, whose processes "
                f"train different clients and share no gradient, but got {given!r:.60}"
            )
        return self._strategy

    def check(self, fabric: Fabric) -> None:
        """What the inner execution cannot do; see :class:`ClientExecution`."""
        self.each.check(fabric)

    def check_method(self, module: FederatedModule) -> None:
        """What the inner execution cannot do; see :class:`ClientExecution`."""
        self.each.check_method(module)

    def setup_module(self, fabric: Fabric, module: FederatedModule) -> Any:
        """As the inner execution does; see :class:`ClientExecution`."""
        return self.each.setup_module(fabric, module)

    def run(
        self, training: LocalTraining, starts: Sequence[ClientRound]
    ) -> Iterator[Finished | Failed]:
        """Train this process's share and get the others'; see :class:`ClientExecution`.

        Raises:
            ProcessLost: If another process has died.
        """
        fabric, clients = training.fabric, [start.client for start in starts]
        work = [local_work(training.settings, training.data.batch_size, c) for c in clients]
        own = balanced(work, fabric.world_size)[fabric.global_rank]
        results: dict[int, Finished | Failed] = {}
        mine = [starts[position] for position in own]
        for position, result in zip(own, self.each.run(training, mine), strict=True):
            results[position] = result
            self._require_others()
        if not is_alone():
            for data in self._of_others(pack_results(results)):
                results |= unpack_results(data, clients)
        for position in range(len(starts)):
            yield results.pop(position)

    def prepare(
        self, training: LocalTraining, starts: Sequence[ClientRound], prepared: Prepared
    ) -> dict[str, Payload]:
        """Let this process's share prepare and get the others'; see :class:`ClientExecution`.

        Raises:
            ProcessLost: If another process has died.
        """
        fabric, clients = training.fabric, [start.client for start in starts]
        shares = balanced([float(client.num_samples) for client in clients], fabric.world_size)
        mine = [starts[position] for position in shares[fabric.global_rank]]
        results = self.each.prepare(training, mine, prepared)
        if is_alone():
            return results
        packed = pack(list(results), [payload.to_bytes() for payload in results.values()])
        for data in self._of_others(packed):
            names, blobs = unpack(data)
            results |= {n: Payload.from_bytes(b) for n, b in zip(names, blobs, strict=True)}
        return {client.id: results[client.id] for client in clients if client.id in results}

    def _require_others(self) -> None:
        if self._strategy.loss.said is not None:
            raise ProcessLost(self._strategy.loss.said)

    def _of_others(self, data: bytes) -> list[bytes]:
        """What the other processes give, where this one gives ``data``."""
        collectives = self.collectives
        every = enumerate(collectives.gather(data))
        return [one for source, one in every if source != collectives.rank]


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


def local_work(settings: LocalSettings, batch_size: int, client: Client) -> float:
    """Batches that a client's round takes, as far as its rows tell.

    Example:
        >>> local_work(LocalSettings(local_epochs=2), 4, Client("a", 0, 9, 0, 0, 0))
        6.0
    """
    if settings.local_steps is not None:
        return float(settings.local_steps * settings.accumulate_grad_batches)
    batches = limited(math.ceil(client.num_samples / batch_size), settings.limit_train_batches)
    return float(batches * (settings.local_epochs or 1))
