"""Says once where a run does not learn: a warm-up that never ends, a model that does not move."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.callbacks.planned_steps import planned_steps
from lit_fed.federation.client.local_batches import steps_and_epochs
from lit_fed.module import FederatedModule

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.payload import Payload
    from lit_fed.update import Update

WEIGHTS_TOLERANCE: Final = 1e-6
"""Relative distance up to which weights are the same: averaging equal ones rounds them."""
METRICS_TOLERANCE: Final = 1e-4
"""Relative difference up to which metrics are the same: the digits that a run shows."""


def relative_change(before: Payload, after: Payload) -> float | None:
    """How far the floating-point tensors of a payload have moved, relative to their Euclidean norm before.

    Args:
        before: A broadcast.
        after: The next one.

    Returns:
        None if they do not hold the same tensors, or none.

    Example:
        >>> import torch
        >>> from lit_fed.payload import Payload
        >>> before, after = (Payload({"lora_A": torch.tensor(v)}) for v in ([3.0, 4.0], [3.0, 4.5]))
        >>> relative_change(before, after)
        0.1
    """
    old, new = before.tensors, after.tensors
    if {n: t.shape for n, t in old.items()} != {n: t.shape for n, t in new.items()}:
        return None
    names = [name for name, tensor in old.items() if tensor.is_floating_point()]
    if not names:
        return None
    moved = sum(float((new[n].float() - old[n].float()).square().sum()) for n in names)
    norm = sum(float(old[n].float().square().sum()) for n in names)
    if norm == 0:
        return 0.0 if moved == 0 else math.inf
    return math.sqrt(moved / norm)


def validated(row: Mapping[str, float]) -> dict[str, float]:
    """The validation metrics in a round's row: the global model's, or else the clients' means.

    Example:
        >>> validated({"round": 0, "val/loss": 0.5, "clients/val/loss/mean": 0.75})
        {'val/loss': 0.5}
    """
    own = {name: value for name, value in row.items() if name.startswith("val/")}
    return own or {
        name: value
        for name, value in row.items()
        if name.startswith("clients/val/") and name.endswith("/mean")
    }


class LearningCheck(FederatedCallback):
    """Says once where nothing is learnt, and is silent in a run that learns.

    Before the first round: that no client is to take as many optimizer steps as its warm-up has. After the
    first rounds, until one of them has moved the global model: that a round has left all weights as they
    were, or that two validations in turn came to the same.
    """

    def __init__(self) -> None:
        self._weights_stand = self._metrics_stand = True  # as far as has been seen
        self._before: Payload | None = None
        self._updated = False

    def state_dict(self) -> dict[str, Any]:
        """What has not moved yet, so that a run that goes on later is not told again."""
        return {"weights": self._weights_stand, "metrics": self._metrics_stand}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on; see :meth:`state_dict`."""
        self._weights_stand = bool(state_dict["weights"])
        self._metrics_stand = bool(state_dict["metrics"])

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Compare the steps that are planned with those of the warm-up."""
        own = type(module)
        if (
            trainer.fast_dev_run
            or own.configure_optimizers is not FederatedModule.configure_optimizers
        ):
            return
        for stage in module.stages:
            of_stage = stage.warmup_steps is not None
            warmup = stage.warmup_steps if of_stage else module.warmup_steps
            data, settings = trainer.datamodule, trainer.local_settings
            # how many rows a sequence holds is not known from their number
            counted = module.trains_on_all_rows and not data.encoding.packing
            if not warmup or (steps_and_epochs(stage, settings)[0] is None and not counted):
                continue
            planned = planned_steps(
                stage, settings, data.batch_size, _phases(trainer), trainer.clients_per_round
            )
            if planned < warmup:
                setting = (
                    f"warmup_steps of stage {stage.name!r}" if of_stage else "model.warmup_steps"
                )
                rank_zero_warn(
                    f"`{setting}` is {warmup}, but in {trainer.max_rounds} rounds no client is planned to take more "
                    f"than {planned} optimizer steps: the learning rate never gets beyond {planned / warmup:.0%} of "
                    "the optimizer's"
                )

    def on_round_start(
        self, trainer: FederationView, module: FederatedModule, clients: Sequence[Any]
    ) -> None:
        """Nothing has been aggregated yet."""
        self._before, self._updated = None, False

    def on_aggregate_end(
        self, trainer: FederationView, module: FederatedModule, updates: Sequence[Update]
    ) -> None:
        """Hold the weights before the round, which it then replaces."""
        self._updated = True
        if self._weights_stand:
            self._before = trainer.federation.broadcast

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Compare the model with that before the round."""
        before, self._before = self._before, None
        if not self._updated or trainer.fast_dev_run:
            return
        number = trainer.federation.round
        if before is not None:
            change = relative_change(before, trainer.federation.broadcast)
            self._weights_stand = False
            if change is not None and change <= WEIGHTS_TOLERANCE:
                self._say(f"round {number} has left the weights that clients exchange as they were")
        now = validated(metrics)
        earlier = [row for row in trainer.federation.history[:-1] if validated(row)]
        if not (self._metrics_stand and now and earlier):
            return
        last = validated(earlier[-1])
        if now.keys() == last.keys() and all(
            math.isclose(now[name], last[name], rel_tol=METRICS_TOLERANCE) for name in now
        ):
            shown = ", ".join(f"{name} {value:.4f}" for name, value in now.items())
            self._say(f"rounds {int(earlier[-1]['round'])} and {number} came to the same: {shown}")
        self._metrics_stand = False

    def _say(self, what: str) -> None:
        self._weights_stand = self._metrics_stand = False
        rank_zero_warn(
            f"{what}: nothing is learnt. Where this is not meant, look at the learning rate of `model.optimizer`, "
            "`model.warmup_steps` and what `model.backbone` trains"
        )


def _phases(trainer: FederationView) -> list[tuple[int, dict[str, int]]]:
    """Of each task, or of the whole run, its rounds and each client's rows."""
    data = trainer.datamodule
    if trainer.rounds_per_task is None or data.tasks is None:
        return [(trainer.max_rounds, {one.id: len(one.rows) for one in data.clients})]
    return [
        (trainer.rounds_per_task, {one.id: len(one.rows) for one in data.clients_in(task)})
        for task in data.tasks
    ]
