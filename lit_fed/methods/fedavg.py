"""Federated averaging of whatever the backbone trains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from lit_fed.aggregation import Aggregation, WeightedAverage
from lit_fed.backbones import Backbone
from lit_fed.losses import cross_entropy
from lit_fed.module import FederatedModule
from lit_fed.payload import Payload
from lit_fed.update import Update


class FedAvg(FederatedModule):
    r"""Federated averaging of a model or, with a PEFT configuration, of its adapter and head.

    A client starts from :math:`\theta_k \leftarrow \theta_g`, minimises the task loss on its own rows and
    sends :math:`\theta_k`; the server takes :math:`\theta_g = \sum_k w_k \theta_k`.

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017,
    Algorithm 1, https://arxiv.org/abs/1602.05629. With a LoRA backbone this is the LoRA-FedAvg of the
    literature, which averages A and B separately.

    Args:
        backbone: The model, its tokenizer and its trainable part. None: the embedded classifier.
        aggregation: How uploads are combined. None: the average weighted by the clients' sizes.
        optimizer: Makes the client's optimizer of the trainable parameters.
        warmup_steps: Linear warm-up of the learning rate over the client's first own steps.
    """

    def __init__(
        self,
        backbone: Backbone | None = None,
        aggregation: Aggregation | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(
            params, lr=2e-5, weight_decay=0.01
        ),
        warmup_steps: int = 500,
    ) -> None:
        super().__init__(backbone, optimizer, warmup_steps)
        self.aggregation = aggregation or WeightedAverage()

    def initial_broadcast(self) -> Payload:
        """Server: the weights the backbone was built with."""
        return self.upload()

    def download(self, broadcast: Payload) -> None:
        """Client: θ_k ← θ_g."""
        self.backbone.load_trainable(broadcast.tensors)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """The cross-entropy of the task."""
        student = self(batch)
        loss = cross_entropy(student.logits, student.targets, student.mask, batch.get("weight"))
        self.log("train/loss", loss)
        return loss

    def upload(self) -> Payload:
        """Client: θ_k."""
        return Payload(self.backbone.trainable())

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        """Server: θ_g = Σ w_k θ_k."""
        return self.aggregation(updates)
