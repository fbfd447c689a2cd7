"""What the methods that average weights share: their constructor and the client–server protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable

from lit_fed.aggregation import Aggregation, WeightedAverage
from lit_fed.backbones import Backbone
from lit_fed.client import Client
from lit_fed.module import FederatedModule
from lit_fed.payload import Payload
from lit_fed.update import Update


class AveragingMixin(FederatedModule):
    """Gives a method the exchange of what the backbone trains, combined by an aggregation rule.

    The weights are the payload's main part. A method that exchanges more adds parts of its own::

        def upload(self):
            return super().upload().with_parts({"consensus": self.consensus.send()})

        def download(self, broadcast):
            super().download(broadcast)
            self.consensus.receive(broadcast.parts.get("consensus", Payload()))

        def aggregate(self, updates):
            mixed = self.consensus.mix(updates, self.aggregation.weights(updates))
            return super().aggregate(updates).with_parts({"consensus": mixed})

    Args:
        backbone: The model, its tokenizer and its trainable part. None: the embedded classifier.
        aggregation: How uploads are combined. None: the average weighted by the clients' sizes.
        optimizer: Makes the client's optimizer of the trainable parameters.
        warmup_steps: Linear warm-up of the learning rate over the client's first own steps.
        **kwargs: For the next class.
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
        self._last_broadcast: Payload | None = None

    def initial_broadcast(self) -> Payload:
        """Server: θ_g as the backbone was built."""
        return Payload(self.backbone.trainable())

    def act_as(self, client: Client | None) -> None:
        """Be a client, or the server if None, of whose memory nothing is left until it is loaded."""
        super().act_as(client)
        self.aggregation.load_state(Payload())

    def download(self, broadcast: Payload) -> None:
        """Client: θ_k ← θ_g."""
        if self.client is None:
            self._last_broadcast = broadcast.main
        self.backbone.load_trainable(broadcast.tensors)

    def upload(self) -> Payload:
        """Client: θ_k."""
        return Payload(self.backbone.trainable())

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        """Server: θ_g of the θ_k, by the aggregation rule; other parts of the uploads are left out."""
        previous = self._last_broadcast
        if previous is None:  # nothing has been downloaded, so the module is as it was built
            previous = self.initial_broadcast().main
        weights = [replace(update, payload=update.payload.main) for update in updates]
        return self.aggregation(weights, previous)

    def server_state(self) -> Payload:
        """Server: the memory of the aggregation rule."""
        return self.aggregation.state()

    def load_server_state(self, state: Payload) -> None:
        """Server: take it back."""
        self.aggregation.load_state(state.main)
