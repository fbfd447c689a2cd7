"""DDG+MSI: differentiated distillation guidance with modular structure injection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_fed.aggregation import Aggregation, WeightedAverage
from lit_fed.backbones import Backbone
from lit_fed.losses import AlignmentMixin, KLDistillMixin, cross_entropy
from lit_fed.methods.guidance import GuidanceMixin, only_weights, weights_part
from lit_fed.methods.lone_step import LoneStepMixin
from lit_fed.methods.private_modules import PrivateModulesMixin
from lit_fed.methods.structure_injection import StructureInjectionMixin
from lit_fed.methods.total_loss import TotalLossMixin
from lit_fed.payload import Payload
from lit_fed.update import Update


class DDGMSI(
    KLDistillMixin,
    AlignmentMixin,
    GuidanceMixin,
    StructureInjectionMixin,
    LoneStepMixin,
    PrivateModulesMixin,
    TotalLossMixin,
):
    r"""Differentiated distillation guidance with modular structure injection (DDG+MSI).

    .. math:: L = \mathrm{CE} + L_\mathrm{DDG} + \mu L_\mathrm{MSI}

    with L_DDG of :class:`~lit_fed.DDG` and L_MSI of :class:`~lit_fed.MSI`. One clean pass of the student
    serves all terms; the teacher is never perturbed; δ, the alignment and what is sent come from
    clean passes.

    Zou, "Federated Distillation with Structural Perturbation for Robust Fine-Tuning of LLMs",
    2024, §3: the two modules together.
    With λ1 = λ2 = λ3 = μ = 0 it is :class:`~lit_fed.FedAvg` bit for bit.

    Args:
        backbone: The model, its tokenizer and its adapter. None: the embedded classifier.
        aggregation: How θ_k are combined. None: the average weighted by the clients' sizes.
        optimizer: Makes the client's optimizer of the trainable parameters.
        warmup_steps: Linear warm-up of the learning rate over the client's first own steps.
        **kwargs: Of the loss terms, the teacher, P̄ and the injection.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        aggregation: Aggregation | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(
            params, lr=2e-5, weight_decay=0.01
        ),
        warmup_steps: int = 500,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            backbone=backbone, optimizer=optimizer, warmup_steps=warmup_steps, **kwargs
        )
        self.aggregation = aggregation or WeightedAverage()
        self.distils = self.lambda_distill > 0 or self.lambda_align > 0
        if self.distils or (self.guide is not None and self.lambda_aggregate):
            self.add_teacher()

    def initial_broadcast(self) -> Payload:
        """Server: θ_g as the backbone was built; there is no P̄ yet."""
        return Payload(self.backbone.trainable())

    def download(self, broadcast: Payload) -> None:
        """Client: θ_k ← θ_g, the teacher ← θ_g, and P̄."""
        self.backbone.load_trainable(weights_part(broadcast))
        self.set_teacher()
        self.receive_consensus(broadcast)
        self.count_steps()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = CE + L_DDG + μ·L_MSI."""
        weight = batch.get("weight")
        with self.shared_dropout() as randomness:
            clean = self(batch, output_hidden=self.lambda_align > 0)
        perturbed, injection = self.perturbed(batch, randomness)
        sees = self.distils or self.guides_on_private
        teacher = self.teacher(batch, pooled=self.lambda_align > 0) if sees else None
        return self.total_loss(
            cross_entropy(clean.logits, clean.targets, clean.mask, weight),
            distill=self.kl_distill_loss(clean, teacher, weight),
            align=self.alignment_loss(clean, teacher, weight),
            aggregate=self.guidance_loss(self.guidance(batch, clean, teacher)),
            **self.injection_losses(clean, perturbed, injection, weight),
        )

    def upload(self) -> Payload:
        """Client: θ_k and q_k."""
        self.warn_of_a_lone_step(self.distils)
        return Payload({**self.backbone.trainable(), **self.send_consensus()})

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        """Server: θ_g = Σ w_k θ_k and P̄ = Σ w_k q_k, and, if asked for, θ_g distilled from P̄."""
        weights = self.aggregation(only_weights(updates), Payload())
        consensus = self.mix_consensus(updates, self.aggregation)
        return self.distil_on_server(Payload({**weights.tensors, **consensus}))
