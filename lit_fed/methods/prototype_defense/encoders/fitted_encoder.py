"""Fitted encoder: a classifier that the server trains on the references alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from lit_fed.backbones import Backbone
from lit_fed.fitting import fit_classifier
from lit_fed.limits import require_at_least, require_non_negative, require_positive
from lit_fed.methods.prototype_defense.encoders.gate_encoder import GateEncoder, pooled
from lit_fed.methods.teachers import Teacher, silent

if TYPE_CHECKING:
    from datasets import Dataset
    from peft import PeftConfig

    from lit_fed.module import FederatedModule

GATE: Final = "gate"
"""The name of the encoder's adapter."""


class FittedEncoder(GateEncoder):
    """A second adapter on the student's base, with its head, trained on the references and then frozen.

    No client's row has any part in it, so that no client can poison it. Its weights are sent to each client once, with
    the prototypes. It classifies as well as the references teach it to, and the gate is no better than that.

    Args:
        epochs: Passes over the references.
        lr: Learning rate of AdamW, which falls linearly to 0. Where a whole matrix trains, as a pooler's, 0.003 is
            too much: the encoder may stay at chance.
        weight_decay: Of AdamW.
        batch_size: Rows of a batch.
        max_grad_norm: The largest norm of a step's gradient, which is scaled down to it.
        seed: Of the batches' order and of dropout.
        peft: The adapter's configuration, of the kind of the backbone's. None: the backbone's own.

    Raises:
        ValueError: If a number is out of range; when the method is built, if the backbone trains all of its weights or
            can have no second adapter.
    """

    _backbone: Backbone | None = None
    _built: Mapping[str, Tensor] = {}

    def __init__(
        self,
        epochs: int = 8,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        batch_size: int = 16,
        max_grad_norm: float = 1.0,
        seed: int = 0,
        peft: PeftConfig | None = None,
    ) -> None:
        self.epochs = require_at_least("model.encoder.epochs", epochs, 1)
        self.lr = require_positive("model.encoder.lr", lr)
        self.weight_decay = require_non_negative("model.encoder.weight_decay", weight_decay)
        self.batch_size = require_at_least("model.encoder.batch_size", batch_size, 1)
        self.max_grad_norm = require_positive("model.encoder.max_grad_norm", max_grad_norm)
        self.seed = require_at_least("model.encoder.seed", seed, 0)
        self.peft = peft

    def attach(self, student: Backbone, teacher: Teacher) -> None:
        """Add the adapter; see the base class."""
        try:
            # Its first values are drawn by its own seed, so that those of whatever comes next stay as they are.
            with isolate_rng():
                torch.manual_seed(self.seed)
                student.add_adapter(GATE, self.peft)
        except ValueError as error:
            raise ValueError(
                f"`model.encoder` FittedEncoder expects `model.backbone` to take a second adapter, but: {error}"
            ) from error
        self._backbone = student
        self._built = self._values()

    def fit(self, module: FederatedModule, references: Dataset) -> dict[str, Tensor]:
        """Server: train it on the references, as it was built; see the base class."""
        backbone = self.backbone
        self.load(self._built)
        before = backbone.active_adapters
        backbone.activate(GATE)
        try:
            fit_classifier(
                backbone,
                list(backbone.trainable(GATE).values()),
                references,
                module.batches,
                self.batch_size,
                self.epochs,
                self.lr,
                self.weight_decay,
                self.max_grad_norm,
                self.seed,
            )
        finally:
            backbone.activate(*before)
        return self._values()

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take the adapter's values; see the base class."""
        self.backbone.load_trainable(weights, GATE)

    def _values(self) -> dict[str, Tensor]:
        """The adapter's values, on the CPU."""
        return {n: p.detach().cpu().clone() for n, p in self.backbone.trainable(GATE).items()}

    @property
    def backbone(self) -> Backbone:
        """The student's; see the base class."""
        if self._backbone is None:
            raise RuntimeError("a FittedEncoder expects a backbone: call attach() first")
        return self._backbone

    def states(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The vectors of a batch; see the base class."""
        with silent(self.backbone, GATE):
            return pooled(self.backbone(batch, output_hidden=True))
