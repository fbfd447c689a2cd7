"""Several clients at once, as a dimension of the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal

from lightning.fabric import Fabric
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng

from lit_fed.federation.client.local_training import LocalTraining
from lit_fed.federation.client.results import ClientRound, Failed, Finished
from lit_fed.federation.client.trial import seconds
from lit_fed.federation.execution.execution import ClientExecution
from lit_fed.federation.execution.vectorized.pace import Pace
from lit_fed.federation.execution.vectorized.vectorizable import GENERATE, CannotVectorize
from lit_fed.limits import require_at_least
from lit_fed.module import FederatedModule

if TYPE_CHECKING:
    from lit_fed.federation.execution.vectorized.runner import VectorizedRunner


_AT_ONCE: Final = 8


class VectorizedClients(ClientExecution):
    """n clients at a time: their batches are one batch, and each has its own adapter.

    A pass of the frozen model is computed once for all rows of all n clients; every parameter of an
    adapter has a leading dimension of clients. Everything else of a client is its own: losses,
    optimizer, schedule, clipping, random stream, a method's state. So a round ends as with
    :class:`SequentialClients`, but for rounding. Clients may differ in rows, batches, lengths and steps.

    It pays where one client's batch leaves the hardware idle, and costs the activations and adapters
    of n clients. What cannot be vectorised is refused by name.

    Args:
        clients_at_once: n, at least 1. "auto": up to 8 where that is faster, else one after the other. Which it is, is
            found out on rounds that have to be trained anyway: two clients alone and two together, of which the
            slower way costs little, and is said once.

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
        self._training: LocalTraining | None = None
        self._pace = Pace(self._size)

    def check(self, fabric: Fabric) -> None:
        """Refuse scaled gradients; see :class:`ClientExecution`."""
        if getattr(fabric.strategy.precision, "scaler", None) is not None:
            raise CannotVectorize("`trainer.precision` '16-mixed', whose scale all clients share,")

    def check_method(self, module: FederatedModule) -> None:
        """Refuse models that write texts in a round; see :class:`ClientExecution`."""
        if module.generates:
            raise CannotVectorize(GENERATE)

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

        if (
            self._training is not training
        ):  # each time a trainer takes a module in, its training is new
            self._training, self._runner, self._pace = training, None, Pace(self._size)
        if self._pace.together is False:
            self._runner = None
            yield from map(training.attempt, starts)
            return
        size = min(self._size, len(starts))
        if self._runner is None or len(self._runner.slots) < size:
            self._runner = None
            self._runner = VectorizedRunner(training, size)
        if self.clients_at_once == "auto":
            yield from self._at_its_pace(self._runner, self._pace, starts)
            return
        for begin in range(0, len(starts), self._size):
            yield from self._runner.train(starts[begin : begin + self._size])

    def _at_its_pace(
        self, runner: VectorizedRunner, pace: Pace, starts: Sequence[ClientRound]
    ) -> Iterator[Finished | Failed]:
        """Train the clients as many at a time as is fastest, as far as that is known."""
        waiting = list(starts)
        while waiting:
            group = waiting[: pace.next(len(waiting))]
            del waiting[: len(group)]
            if len(group) > 1 and pace.ratio is None:
                with isolate_rng():  # what is done for the first time is not counted
                    runner.try_steps(group, 1)
            results, took = _timed(runner, group)
            if pace.together is None and all(map(_trained, group, results)):
                pace.tell([_rows(runner.training, start) for start in group], took)
                if pace.together is not None:
                    rank_zero_info(
                        f"VectorizedClients: clients at once take {pace.ratio:.2f} of the time of one after the other; "
                        f"they run {'at once' if pace.together else 'one after the other'} from now on"
                    )
            yield from results


def _trained(start: ClientRound, result: Finished | Failed) -> bool:
    """Whether a client took steps, whose time tells something: a black box takes none."""
    return isinstance(result, Finished) and result.state.steps > start.before.steps


def _timed(
    runner: VectorizedRunner, group: Sequence[ClientRound]
) -> tuple[list[Finished | Failed], float]:
    """Train some clients together, or one alone, and tell the seconds that it took."""
    results: list[Finished | Failed] = []

    def train() -> None:
        alone = len(group) == 1
        results.extend([runner.training.attempt(group[0])] if alone else runner.train(group))

    took = seconds(train, runner.training.fabric.device)
    return results, took


def _rows(training: LocalTraining, start: ClientRound) -> int:
    """How many rows a client trains on in a round, as far as that makes clients differ."""
    steps = training.settings.local_steps
    return start.client.num_samples if steps is None else steps
