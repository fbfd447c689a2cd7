"""What callbacks that evaluate the model between rounds have in common: when they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.federation.evaluation import spread_of_clients
from lit_fed.limits import require_none_or_at_least

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class PeriodicEvaluation(FederatedCallback):
    """A callback that evaluates after each task, or after the last round where there are none.

    The last round is also one that a callback such as Lightning's ``EarlyStopping`` has ended the run with by its
    validation. An end that is asked for later in a round comes after the evaluations, which is said then.

    Args:
        every_n_rounds: Evaluate after every so many rounds as well. None: not.

    Attributes:
        prefix: How the names of its metrics begin, where no other evaluation may have such. None: they differ anyway.

    Raises:
        ValueError: If ``every_n_rounds`` is below 1.
    """

    prefix: str | None = None

    def __init__(self, every_n_rounds: int | None = None) -> None:
        setting = f"{type(self).__name__}.every_n_rounds"
        self._left_out: int | None = None
        self.every_n_rounds = require_none_or_at_least(setting, every_n_rounds, 1)

    def is_due(self, trainer: FederationView) -> bool:
        """Whether to evaluate in ``on_round_evaluation``, where a round has just been counted."""
        due = self._is_due(trainer)
        self._left_out = None if due else trainer.current_round
        return due

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Say that the last round has not been evaluated, where its end was asked for too late."""
        if self._left_out is not None and self._left_out == trainer.current_round:
            rank_zero_warn(
                f"{type(self).__name__} has not evaluated round {self._left_out}, the last one, since the end was "
                "asked for after the round's evaluations: with `every_n_rounds` 1 it evaluates all rounds"
            )

    def _is_due(self, trainer: FederationView) -> bool:
        finished = trainer.current_round
        if self.every_n_rounds is not None and finished % self.every_n_rounds == 0:
            return True
        if trainer.rounds_per_task is not None and finished % trainer.rounds_per_task == 0:
            return True
        return trainer.is_last_round


def of_every_model(
    trainer: FederationView,
    module: FederatedModule,
    tell: Callable[[FederatedModule, int | None], Mapping[str, float]],
) -> dict[str, float]:
    """What is told of the global model, if there is one, and the spread of what is told of the clients' own.

    Args:
        trainer: The run's.
        module: Its module, which is the server again afterwards.
        tell: Gets the module as the server or as a client, and the client's position among all, None for the server.
            Of a client that it tells nothing of, such as a black box, the spread says nothing.
    """
    told: dict[str, float] = {}
    if module.has_global_model:
        told |= tell(trainer.act_as_server(), None)
    if module.has_client_models or not module.has_global_model:
        clients = enumerate(trainer.datamodule.clients)
        told |= spread_of_clients([(own, tell(trainer.act_as_client(k), k)) for k, own in clients])
        trainer.act_as_server()
    return told


def require_own_names(callback: PeriodicEvaluation, trainer: Any) -> None:
    """Refuse two evaluations whose metrics have the same names, of which one would hide the other.

    Args:
        callback: One of them.
        trainer: Whose callbacks both are.

    Raises:
        ValueError: If there are two.
    """
    prefix = callback.prefix
    evaluations = (one for one in trainer.callbacks if isinstance(one, PeriodicEvaluation))
    others = [one for one in evaluations if one.prefix == prefix]
    if len(others) > 1:
        kinds = " and ".join(type(one).__name__ for one in others)
        raise ValueError(
            f"`trainer.callbacks` are expected to have metrics of their own, but {kinds} both write {prefix}/…; a "
            "BackdoorEvaluation takes a `name`"
        )


def last_round_task(trainer: FederationView) -> tuple[int, int]:
    """The task of the round that has just been counted, and how many rounds of it there were by then.

    Raises:
        ValueError: If the trainer does not go through a sequence of tasks.
    """
    if trainer.rounds_per_task is None:
        raise ValueError(
            "`trainer.rounds_per_task` is expected where tasks are evaluated one after the other, but "
            "is null"
        )
    before = trainer.current_round - 1
    tasks = len(trainer.datamodule.tasks or ())
    task = min(before // trainer.rounds_per_task, tasks - 1)
    return task, before - task * trainer.rounds_per_task + 1
