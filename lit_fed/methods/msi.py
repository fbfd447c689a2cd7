"""MSI: modular structure injection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_fed.aggregation import Aggregation, WeightedAverage
from lit_fed.backbones import Backbone
from lit_fed.losses import cross_entropy
from lit_fed.methods.private_modules import PrivateModulesMixin
from lit_fed.methods.structure_injection import StructureInjectionMixin
from lit_fed.methods.total_loss import TotalLossMixin
from lit_fed.payload import Payload
from lit_fed.update import Update


class MSI(StructureInjectionMixin, PrivateModulesMixin, TotalLossMixin):
    r"""Modular structure injection (MSI).

    At every n-th of its own steps a client passes a batch a second time, with modules
    :math:`M_i(h) + \Delta_i`, and minimises

    .. math::
        L = \mathrm{CE} + \mu (L_\mathrm{stability} + \beta L_\mathrm{weight}), \quad
        L_\mathrm{stability} = \lVert p - \tilde p \rVert^2, \quad
        L_\mathrm{weight} = \sum_i \lambda_i \lVert \Delta_i \rVert^2 / \lVert M_i \rVert^2.

    Weights are exchanged and averaged as in federated averaging.

    Zou, "Federated Distillation with Structural Perturbation for Robust Fine-Tuning of LLMs",
    2024, §3.2: L_MSI. The two passes share
    their dropout, so without a perturbation L_stability is exactly 0. Where Δ is drawn and not learnt,
    L_weight has no gradient: it is logged as ``train/weight_regularization``. With μ = 0 it is
    :class:`~lit_fed.FedAvg` bit for bit.

    Args:
        backbone: The model, its tokenizer and its trainable part. None: the embedded classifier.
        aggregation: How θ_k are combined. None: the average weighted by the clients' sizes.
        optimizer: Makes the client's optimizer of the trainable parameters.
        warmup_steps: Linear warm-up of the learning rate over the client's first own steps.
        **kwargs: Of the loss terms and the injection.
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

    def initial_broadcast(self) -> Payload:
        """Server: θ_g as the backbone was built."""
        return self.upload()

    def download(self, broadcast: Payload) -> None:
        """Client: θ_k ← θ_g."""
        self.backbone.load_trainable(broadcast.tensors)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """L = CE + μ(L_stability + β·L_weight), the latter two at the steps with injection."""
        weight = batch.get("weight")
        with self.shared_dropout() as randomness:
            clean = self(batch)
        perturbed, injection = self.perturbed(batch, randomness)
        return self.total_loss(
            cross_entropy(clean.logits, clean.targets, clean.mask, weight),
            **self.injection_losses(clean, perturbed, injection, weight),
        )

    def upload(self) -> Payload:
        """Client: θ_k."""
        return Payload(self.backbone.trainable())

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        """Server: θ_g = Σ w_k θ_k."""
        return self.aggregation(updates, Payload())
