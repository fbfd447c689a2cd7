"""Several clients at once, as a dimension of the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from lightning.fabric import Fabric

from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.results import ClientRound, Failed, Finished
from lit_fed.federation.execution.execution import ClientExecution
from lit_fed.federation.execution.vectorized.vectorizable import CannotVectorize
from lit_fed.limits import require_at_least

if TYPE_CHECKING:
    from lit_fed.federation.execution.vectorized.runner import VectorizedRunner


class VectorizedClients(ClientExecution):
    """n clients at a time: their batches are one batch, and each has its own adapter.

    A pass of the frozen model is computed once for all rows of all n clients; every parameter of an
    adapter has a leading dimension of clients. Everything else of a client is its own: losses,
    optimizer, schedule, clipping, random stream, a method's state. So a round ends as with
    :class:`SequentialClients`, but for rounding. Clients may differ in rows, batches, lengths and steps.

    It pays where one client's batch leaves the hardware idle, and costs the activations and adapters
    of n clients. What cannot be vectorised is refused by name.

    Args:
        clients_at_once: n, at least 1.

    Raises:
        ValueError: If ``clients_at_once`` is below 1.

    Example:
        >>> VectorizedClients(clients_at_once=4).clients_at_once
        4
    """

    def __init__(self, clients_at_once: int = 8) -> None:
        setting = "trainer.execution.clients_at_once"
        self.clients_at_once = require_at_least(setting, clients_at_once, 1)
        self._runner: VectorizedRunner | None = None

    def check(self, fabric: Fabric) -> None:
        """Refuse scaled gradients; see :class:`ClientExecution`."""
        if getattr(fabric.strategy.precision, "scaler", None) is not None:
            raise CannotVectorize("`trainer.precision` '16-mixed', whose scale all clients share,")

    def run(
        self, training: LocalTraining, starts: Sequence[ClientRound]
    ) -> Iterator[Finished | Failed]:
        """Train the clients n at a time, in order; see :class:`ClientExecution`.

        A client whose training raises, or whose loss or upload is not finite, is yielded as failed.

        Raises:
            ValueError: If the method does something that cannot be vectorised.
        """
        # It knows peft's layers, and importing those takes a second, which only this execution needs.
        from lit_fed.federation.execution.vectorized.runner import VectorizedRunner

        size = min(self.clients_at_once, len(starts))
        runner = self._runner
        # Each time a trainer takes a module in, its training is new.
        if runner is None or runner.training is not training or len(runner.slots) < size:
            self._runner = None
            self._runner = runner = VectorizedRunner(training, size)
        for begin in range(0, len(starts), self.clients_at_once):
            yield from runner.train(starts[begin : begin + self.clients_at_once])
