"""How far the representations of fixed probes stay what they were: RSI."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lit_fed.callbacks.periodic_evaluation import PeriodicEvaluation, last_round_task
from lit_fed.callbacks.reported_index import report_index
from lit_fed.limits import require_at_least, require_fraction
from lit_fed.losses import mean_pool
from lit_fed.metrics import RepresentationStabilityIndex
from lit_fed.perturbations import DropBlock, Perturbation, Site, find_modules, inject

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


_LEAST = 4  # probes of which debiased CKA can be told
_SITES: tuple[Site, ...] = ("attention", "feed_forward")


class RepresentationStability(PeriodicEvaluation):
    """Compares the global model's representations after each earlier task with the present ones.

    A round's row of the history gets ``index/RSI``, of Zou (2024), Table 1, from the second task on, as
    if the sequence ended there: the debiased linear CKA of each layer's mean-pooled states of the same
    held-out rows, averaged over layers and earlier tasks. These states are part of the checkpoint: tasks ×
    layers × probes × width numbers.

    ``index/RSI/perturbed`` compares the same states with those of a pass in which DropBlock drops spans of tokens
    from the outputs of attention and feed-forward: a perturbation that training has not seen, unless the
    method's own is DropBlock. Both have their standard error over the probes as ``index/<name>/error``.

    Args:
        every_n_rounds: Evaluate after every so many rounds, beside after each task. None: not.
        num_probes: At most how many rows of ``data.validation``, else of the first test, evenly spaced.
        drop_rate: Probability that a token is dropped, within [0, 1). 0: no perturbed pass.

    Raises:
        ValueError: If a number is out of range; when a fit starts, if there is no sequence of tasks, no
            global model, no row to probe with, or no module to drop tokens from.
    """

    def __init__(
        self, every_n_rounds: int | None = None, num_probes: int = 128, drop_rate: float = 0.1
    ) -> None:
        super().__init__(every_n_rounds)
        setting = "RepresentationStability.num_probes"
        self.num_probes = require_at_least(setting, num_probes, _LEAST)
        self.drop_rate = require_fraction("RepresentationStability.drop_rate", drop_rate)
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
        for site in _SITES if self.drop_rate else ():
            try:
                find_modules(module.backbone.model, site)
            except ValueError as error:
                raise ValueError(
                    f"`RepresentationStability.drop_rate` is expected to be 0 for this model: {error}"
                ) from error
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
        # all processes compare alike
        index = RepresentationStabilityIndex(sync_on_compute=False)
        if earlier:
            for after, states in earlier.items():
                for layer, (then, now) in enumerate(zip(states, present, strict=True)):
                    index.update(then, now, group=after, layer=layer)
            report_index(metrics, "RSI", index.compute(), index.standard_error())
        if self.drop_rate:
            index.reset()
            perturbed = self._states(trainer, module, DropBlock(self.drop_rate))
            for layer, (clean, other) in enumerate(zip(present, perturbed, strict=True)):
                index.update(other, clean, layer=layer)
            report_index(metrics, "RSI/perturbed", index.compute(), index.standard_error())
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
    def _states(
        self,
        trainer: FederationView,
        module: FederatedModule,
        perturbation: Perturbation | None = None,
    ) -> list[Tensor]:
        """Mean-pooled states of the probes, [num_probes, d] for each layer, on the CPU."""
        trainer.act_as_server()
        training = module.training
        module.eval()
        batches = []
        # the same tokens are dropped in every evaluation
        generator = torch.Generator().manual_seed(0)
        for batch in module.batches(self._probes):
            mask = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
            with ExitStack() as stack:
                stack.enter_context(trainer.fabric.autocast())
                if perturbation is not None:
                    stack.enter_context(
                        inject(
                            module.backbone.model,
                            perturbation,
                            _SITES,
                            attention_mask=module.backbone.seen_mask(batch),
                            generator=generator,
                        )
                    )
                states = module.backbone.layer_states(batch)
            batches.append([mean_pool(state, mask).float().cpu() for state in states])
        module.train(training)
        return [torch.cat(layer) for layer in zip(*batches, strict=True)]


def _place(name: str) -> tuple[int, int]:
    task, _, layer = name.partition(".")
    return int(task), int(layer)
