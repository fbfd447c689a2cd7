"""How far the representations of fixed probes stay what they were: RSI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_fed.callbacks.periodic_evaluation import PeriodicEvaluation, last_round_task
from lit_fed.limits import require_at_least
from lit_fed.losses import mean_pool
from lit_fed.metrics import RepresentationStabilityIndex

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


_LEAST = 4  # probes of which debiased CKA can be told


class RepresentationStability(PeriodicEvaluation):
    """Compares the global model's representations after each earlier task with the present ones.

    A round's row of the history gets ``index/RSI``, of Zou (2024), Table 1, from the second task on, as
    if the sequence ended there: the debiased linear CKA of each layer's mean-pooled states of the same
    held-out rows, averaged over layers and earlier tasks. These states are part of the checkpoint: tasks ×
    layers × probes × width numbers.

    Args:
        every_n_rounds: Evaluate after every so many rounds, beside after each task. None: not.
        num_probes: At most how many rows of ``data.validation``, else of the first test, evenly spaced.

    Raises:
        ValueError: If a number is out of range; when a fit starts, if there is no sequence of tasks, no
            global model or no row to probe with.
    """

    def __init__(self, every_n_rounds: int | None = None, num_probes: int = 128) -> None:
        super().__init__(every_n_rounds)
        setting = "RepresentationStability.num_probes"
        self.num_probes = require_at_least(setting, num_probes, _LEAST)
        self._after: dict[int, list[Tensor]] = {}
        self._loaded = False

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Choose the probes; go on with the states of a checkpoint."""
        if trainer.rounds_per_task is None or not module.has_global_model:
            raise ValueError(
                "RepresentationStability expects `trainer.rounds_per_task` and a method with a global "
                f"model, but got {trainer.rounds_per_task} and {type(module).__name__}"
            )
        data = trainer.datamodule
        rows = data.validation or next(iter(data.tests.values()), None)
        if rows is None or len(rows) < _LEAST:
            raise ValueError(
                f"RepresentationStability expects at least {_LEAST} rows of `data.validation` (else "
                f"`data.test`) to probe with, but there are {len(rows or ())}"
            )
        count = min(self.num_probes, len(rows))
        self._probes = rows.select([i * len(rows) // count for i in range(count)])
        if not self._loaded:
            self._after = {}
        self._loaded = False

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Compare where it is due, and keep the states after the last round of a task."""
        if not self.is_due(trainer):
            return
        task, rounds = last_round_task(trainer)
        present = self._states(trainer, module)
        earlier = {after: states for after, states in self._after.items() if after < task}
        if earlier:
            index = RepresentationStabilityIndex()
            for after, states in earlier.items():
                for layer, (then, now) in enumerate(zip(states, present, strict=True)):
                    index.update(then, now, group=after, layer=layer)
            metrics["index/RSI"] = float(index.compute())
        if rounds == trainer.rounds_per_task:
            self._after[task] = present

    def state_dict(self) -> dict[str, Any]:
        """The states after the earlier tasks."""
        return {
            f"{after}.{layer}": state
            for after, states in self._after.items()
            for layer, state in enumerate(states)
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        self._after, self._loaded = {}, True
        for name, state in sorted(state_dict.items(), key=lambda item: _place(item[0])):
            self._after.setdefault(_place(name)[0], []).append(state)

    @torch.no_grad()
    def _states(self, trainer: FederationView, module: FederatedModule) -> list[Tensor]:
        """Mean-pooled states of the probes, [num_probes, d] for each layer, on the CPU."""
        trainer.act_as_server()
        training = module.training
        module.eval()
        batches = []
        for batch in module.batches(self._probes):
            with trainer.fabric.autocast():
                states = module.backbone.layer_states(batch)
            mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
            batches.append([mean_pool(state, mask).float().cpu() for state in states])
        module.train(training)
        return [torch.cat(layer) for layer in zip(*batches, strict=True)]


def _place(name: str) -> tuple[int, int]:
    task, _, layer = name.partition(".")
    return int(task), int(layer)
