"""DDG: differentiated distillation guidance."""

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
from lit_fed.methods.total_loss import TotalLossMixin
from lit_fed.payload import Payload
from lit_fed.update import Update


class DDG(
    KLDistillMixin,
    AlignmentMixin,
    GuidanceMixin,
    LoneStepMixin,
    PrivateModulesMixin,
    TotalLossMixin,
):
    r"""Differentiated distillation guidance (DDG).

    A client starts from :math:`\theta_k \leftarrow \theta_g`, keeps a frozen copy as its teacher, and
    minimises on its own rows (x, y) and on public rows u

    .. math::
        L = \mathrm{CE} + \lambda_1 \mathrm{KD}(p_g \to p_k, x)
            + \lambda_2 \tfrac{1}{d} \lVert h_k(x) - h_g(x) \rVert^2
            + \lambda_3 \alpha \, \mathrm{KD}(\bar P[u] \to p_k(u)),

    .. math:: \delta = \lVert p_k(u) - p_g(u) \rVert_2, \qquad \alpha = \sigma(\gamma \delta).

    It sends :math:`\theta_k` and its soft predictions :math:`q_k`; the server takes
    :math:`\theta_g = \sum_k w_k \theta_k` and :math:`\bar P = \sum_k w_k q_k`.

    Zou, "Federated Distillation with Structural Perturbation for Robust Fine-Tuning of LLMs",
    2024, §3.1: L_DDG, a client's own terms
    of the sum over clients. KD is T²·KL (Hinton et al., 2015, https://arxiv.org/abs/1503.02531), h the
    mean-pooled last hidden state. With all weights at 0 it is :class:`~lit_fed.FedAvg` bit for bit.

    Args:
        backbone: The model, its tokenizer and its adapter. None: the embedded classifier.
        aggregation: How θ_k are combined. None: the average weighted by the clients' sizes.
        optimizer: Makes the client's optimizer of the trainable parameters.
        warmup_steps: Linear warm-up of the learning rate over the client's first own steps.
        **kwargs: Of the loss terms, the teacher and P̄.
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
        """L = CE + λ1·KD(p_g → p_k, x) + λ2·(1/d)‖h_k − h_g‖² + λ3·α·KD(P̄[u] → p_k(u))."""
        weight = batch.get("weight")
        student = self(batch, output_hidden=self.lambda_align > 0)
        sees = self.distils or self.guides_on_private
        teacher = self.teacher(batch, pooled=self.lambda_align > 0) if sees else None
        return self.total_loss(
            cross_entropy(student.logits, student.targets, student.mask, weight),
            distill=self.kl_distill_loss(student, teacher, weight),
            align=self.alignment_loss(student, teacher, weight),
            aggregate=self.guidance_loss(self.guidance(batch, student, teacher)),
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
