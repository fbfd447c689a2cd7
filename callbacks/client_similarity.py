"""How alike the clients' training data are: by the gradients that they ask for, and by their words."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_fed.backbones.padding import undisturbed
from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.limits import require_none_or_at_least
from lit_fed.losses import cross_entropy
from lit_fed.metrics import mean_pairwise_cosine, text_jensen_shannon, text_tfidf_cosine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset

    from lit_fed.client import Client
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class ClientSimilarity(FederatedCallback):
    r"""Compares the rows that clients train on, as a method gives them to their training: rewritten, for instance.

    It measures before the first round, at the initial global model, and, if asked, before later ones; the row of
    the history of the round that then starts gets:

    - ``similarity/gradient_cosine``: each client's gradient of the task loss (the mean cross-entropy over all its
      rows' tokens, or rows, without dropout) at the same global model, by all that trains there; the mean cosine over
      pairs of clients (:func:`~lit_fed.metrics.mean_pairwise_cosine`). At the start of LoRA, whose B is 0, A has no
      gradient, so that it is B's alone.
    - ``similarity/jensen_shannon`` and ``similarity/tfidf_cosine``, where the model generates: of the texts that are
      learnt (:func:`~lit_fed.metrics.text_jensen_shannon`, :func:`~lit_fed.metrics.text_tfidf_cosine`).

    Clients without rows (of the task under way), black boxes, which train on none, and those that could not prepare are
    left out; with fewer than two left there is nothing to tell. What attachments, such as attacks, make of rows is not
    in it, nor are soft targets: of classes the labels count. It changes nothing of the training. Each measurement takes
    a forward and a backward pass over the rows of all clients, and memory for a gradient of each.

    Args:
        every_n_rounds: Measure before every so many rounds, counted from the first. None: before the first alone.
        max_rows: At most how many of a client's rows the gradient is of, evenly spaced. None: all.
        stage: The stage of the local training whose rows are compared, and by whose parameters. None: the first.
        gradients: Whether gradients are compared; False: words alone, which costs next to nothing. None: where the
            method has a global model and the execution gives single gradients.

    Raises:
        ValueError: If a number is out of range; when a fit starts, if there is no such stage, or ``gradients`` is true
            where they cannot be had.
    """

    def __init__(
        self,
        every_n_rounds: int | None = None,
        max_rows: int | None = None,
        stage: str | None = None,
        gradients: bool | None = None,
    ) -> None:
        self.every_n_rounds = require_none_or_at_least(
            "ClientSimilarity.every_n_rounds", every_n_rounds, 1
        )
        self.max_rows = require_none_or_at_least("ClientSimilarity.max_rows", max_rows, 1)
        self.stage = stage
        self.gradients = gradients
        self._measured: dict[str, float] = {}

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Say what cannot be compared."""
        count = len(trainer.datamodule.clients)
        if count < 2:
            # as in a study whose arms are compared with all rows in one place
            rank_zero_warn(
                f"ClientSimilarity has nothing to compare, since there is {count} client"
            )
        stages = [stage.name for stage in module.stages]
        if self.stage is not None and self.stage not in stages:
            raise ValueError(
                f"`ClientSimilarity.stage` is expected to be one of {stages}, but got {self.stage!r}"
            )
        if self.gradients and not self._has_gradients(trainer, module):
            raise ValueError(
                "`ClientSimilarity.gradients` is expected to be false or null for a method without a global model "
                f"and for an execution without single gradients, but got {type(module).__name__} and "
                f"{type(trainer.execution).__name__}"
            )

    def on_round_start(
        self, trainer: FederationView, module: FederatedModule, clients: Sequence[Client]
    ) -> None:
        """Measure where it is due."""
        done, every = trainer.current_round, self.every_n_rounds
        self._measured = {}
        if not (done == 0 if every is None else done % every == 0):
            return
        with module.timers("client similarity"):
            tables = self._tables(trainer)
            wanted = self.gradients
            if tables and (self._has_gradients(trainer, module) if wanted is None else wanted):
                found = torch.stack([self._gradient(trainer, rows) for rows in tables])
                self._measured["similarity/gradient_cosine"] = float(mean_pairwise_cosine(found))
            texts = [_learnt_texts(trainer, rows) for rows in tables]
            if any(texts):
                self._measured["similarity/jensen_shannon"] = float(text_jensen_shannon(texts))
                self._measured["similarity/tfidf_cosine"] = float(text_tfidf_cosine(texts))
            trainer.act_as_server()

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Give what was measured to the round's row."""
        metrics |= {name: value for name, value in self._measured.items() if value == value}

    @staticmethod
    def _has_gradients(trainer: FederationView, module: FederatedModule) -> bool:
        """Whether there are gradients of clients at one model."""
        return module.has_global_model and trainer.execution.takes_gradients

    def _stage(self, module: FederatedModule) -> str:
        return module.stages[0].name if self.stage is None else self.stage

    def _tables(self, trainer: FederationView) -> list[Dataset]:
        """The rows that each client trains on in the stage, of those that can train."""
        found = []
        data = trainer.datamodule
        states = trainer.federation.clients
        for index, client in enumerate(data.clients):
            rows = data.client_data(client.id, trainer.task).rows
            if trainer.fast_dev_run:  # no others have been prepared
                rows = rows.select(range(min(len(rows), trainer.fast_dev_run * data.batch_size)))
            if not len(rows):
                continue
            module = trainer.act_as_client(index)
            if not module.stages:
                continue
            if module.prepares and (client.id not in states or states[client.id].prepared is None):
                continue
            module.start_stage(self._stage(module))
            found.append(module.local_data(rows, self._stage(module)))
        return found

    def _gradient(self, trainer: FederationView, rows: Dataset) -> Tensor:
        """The gradient of the task loss of all rows at the global model, flat, on the CPU, in float32."""
        module = trainer.act_as_server()
        module.start_stage(self._stage(module))
        if self.max_rows is not None and self.max_rows < len(rows):
            rows = rows.select([i * len(rows) // self.max_rows for i in range(self.max_rows)])
        trained = [p for p in module.parameters() if p.requires_grad]
        sums = [torch.zeros_like(p, dtype=torch.float32) for p in trained]
        total = 0.0
        with ExitStack() as stack:
            stack.enter_context(undisturbed(module))
            stack.enter_context(torch.enable_grad())
            for batch in module.batches(rows):
                with trainer.fabric.autocast():
                    prediction = module(batch)
                if prediction.targets is None:
                    raise ValueError(
                        "ClientSimilarity expects rows with something to learn, but they have no labels"
                    )
                weight = batch.get("weight")
                counted = (
                    prediction.mask.float().flatten(1).sum(1)
                    if prediction.mask.ndim > 1
                    else prediction.mask.float()
                )
                share = float((counted if weight is None else counted * weight).sum())
                loss = cross_entropy(prediction.logits, prediction.targets, prediction.mask, weight)
                grads = torch.autograd.grad(share * loss, trained, allow_unused=True)
                for held, gradient in zip(sums, grads, strict=True):
                    if gradient is not None:
                        held += gradient.float()
                total += share
        flat = torch.cat([held.flatten() for held in sums]).cpu()
        return flat / total if total else flat


def _learnt_texts(trainer: FederationView, rows: Dataset) -> list[str]:
    """The texts that are learnt of rows; the last ones of chats; none where they are labels."""
    encoding = trainer.datamodule.encoding
    if encoding.prompts(rows) is None or encoding.answers(rows) is None:
        return []
    return encoding.responses(rows)
