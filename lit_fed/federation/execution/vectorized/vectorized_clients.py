"""Several clients at once, as a dimension of the batch."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal

from lightning.fabric import Fabric
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng

from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.process_state import undisturbed
from lit_fed.federation.client.results import ClientRound, Failed, Finished
from lit_fed.federation.client.trial import seconds, trial
from lit_fed.federation.execution.execution import ClientExecution
from lit_fed.federation.execution.vectorized.vectorizable import CannotVectorize
from lit_fed.limits import require_at_least

if TYPE_CHECKING:
    from lit_fed.federation.execution.vectorized.runner import VectorizedRunner


_AT_ONCE: Final = 8
_WARM_UP, _TURNS, _BATCHES = 1, 3, 2


class VectorizedClients(ClientExecution):
    """n clients at a time: their batches are one batch, and each has its own adapter.

    A pass of the frozen model is computed once for all rows of all n clients; every parameter of an
    adapter has a leading dimension of clients. Everything else of a client is its own: losses,
    optimizer, schedule, clipping, random stream, a method's state. So a round ends as with
    :class:`SequentialClients`, but for rounding. Clients may differ in rows, batches, lengths and steps.

    It pays where one client's batch leaves the hardware idle, and costs the activations and adapters
    of n clients. What cannot be vectorised is refused by name.

    Args:
        clients_at_once: n, at least 1. "auto": 8 where that is faster, else one after the other. Before the first
            round a few training steps are timed both ways, of which nothing is left, and the ratio is said.

    Raises:
        ValueError: If ``clients_at_once`` is below 1, or a word other than "auto".

    Example:
        >>> VectorizedClients(clients_at_once=4).clients_at_once
        4
    """

    def __init__(self, clients_at_once: int | Literal["auto"] = "auto") -> None:
        setting = "trainer.execution.clients_at_once"
        if isinstance(clients_at_once, str):
            if clients_at_once != "auto":
                raise ValueError(
                    f"`{setting}` is expected to be a count or 'auto', but got {clients_at_once!r}"
                )
            self._size = _AT_ONCE
        else:
            self._size = require_at_least(setting, clients_at_once, 1)
        self.clients_at_once = clients_at_once
        self._runner: VectorizedRunner | None = None
        self._alone: tuple[LocalTraining, int] | None = None

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

        size = min(self._size, len(starts))
        if self._alone is not None and self._alone[0] is training and size <= self._alone[1]:
            yield from map(training.attempt, starts)
            return
        runner = self._runner
        # Each time a trainer takes a module in, its training is new.
        if runner is None or runner.training is not training or len(runner.slots) < size:
            self._runner = None
            runner = VectorizedRunner(training, size)
            if self.clients_at_once == "auto" and _ratio(runner, starts[:size]) >= 1:
                self._alone = training, size
                yield from map(training.attempt, starts)
                return
            self._runner = runner
        for begin in range(0, len(starts), self._size):
            yield from runner.train(starts[begin : begin + self._size])


def _ratio(runner: VectorizedRunner, starts: Sequence[ClientRound]) -> float:
    """The time of clients' steps together as a share of that of one after the other, which is said.

    Where a client fails in its steps, the others' are timed: it will be left out either way.
    """
    training, device = runner.training, runner.training.fabric.device

    def alone() -> None:
        for start in starts:
            with (
                suppress(Exception),
                undisturbed(device.type),
                trial(training, start, _BATCHES) as steps,
            ):
                steps()

    def together() -> None:
        runner.try_steps(starts, _BATCHES)

    ratios = []
    with isolate_rng():
        for _ in range(_WARM_UP + _TURNS):
            without = seconds(alone, device)
            ratios.append(seconds(together, device) / without)
    ratio = statistics.median(ratios[_WARM_UP:])
    rank_zero_info(
        f"VectorizedClients: the steps of {len(starts)} clients at once take {ratio:.2f} of the time of one after the "
        f"other; they run {'at once' if ratio < 1 else 'one after the other'}"
    )
    return ratio
