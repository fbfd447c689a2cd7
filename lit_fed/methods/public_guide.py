"""P̄ on the public set."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from lit_fed.backbones import CausalLM, Prediction
from lit_fed.methods.consensus import ClassConsensus, Consensus, TokenConsensus
from lit_fed.methods.guide import Guide, Guided

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule


class PublicGuide(Guide):
    """Clients send softmax(z_k(U)/T) in half precision, and learn from the mixture on public batches."""

    consensus: Consensus | None = None
    _batches: Iterator[dict[str, Tensor]] | None = None

    def check(self) -> None:
        """There has to be a public set."""
        _public(self._data())

    def receive(self, tensors: Mapping[str, Tensor]) -> None:
        """P̄[U]."""
        self.consensus, self._batches = Consensus.read(tensors), None

    def guided(
        self, batch: Mapping[str, Tensor], student: Prediction, teacher: Prediction | None
    ) -> Guided:
        """The next public batch, with passes of its own."""
        if self.consensus is None:
            return Guided(student, None, None)
        if self._batches is None:
            self._batches = self.batches(self.module.public_batch_size)
        public = next(self._batches)
        own: Prediction = self.module(public)
        consensus = self.consensus.of(public["index"], own.mask)
        return Guided(own, self.module.teacher(public, public=True), consensus)

    def batches(self, size: int | None) -> Iterator[dict[str, Tensor]]:
        """Public batches without end, each epoch in an order of its own.

        Orders follow from the seed that torch was given last, which in a federation stands for the
        round and the client; nothing is drawn from the global generators.
        """
        data, module = self._data(), self.module
        draw = random.Random(f"public {torch.initial_seed()}")
        while True:
            seed = draw.getrandbits(31)
            for batch in data.dataloader(_public(data), module.tokenizer, seed, size):
                yield move_data_to_device(batch, module.device)

    def send(self) -> dict[str, Tensor]:
        """q_k = softmax(z_k(U)/T)."""
        return self.predicted().tensors()

    def predicted(self) -> Consensus:
        """What the student predicts on the public set."""
        module = self.module
        with module.silent():
            passes = ((b["index"], module(b)) for b in module.batches(_public(self._data())))
            batches = ((index, p.mask, p.logits) for index, p in passes)
            if isinstance(module.backbone, CausalLM):
                return TokenConsensus.of_model(batches, module.temperature, module.top_k)
            return ClassConsensus.of_model(batches, module.temperature)

    def combine(
        self,
        adapters: Sequence[Mapping[str, Tensor]],
        sent: Sequence[Mapping[str, Tensor]],
        weights: Tensor,
    ) -> dict[str, Tensor]:
        """P̄ = Σ w_k q_k."""
        if isinstance(self.module.backbone, CausalLM):
            return TokenConsensus.mixed([TokenConsensus(**one) for one in sent], weights).tensors()
        return ClassConsensus.mixed([ClassConsensus(**one) for one in sent], weights).tensors()

    def _data(self) -> FederatedDataModule:
        data = self.module.datamodule or getattr(self.module._trainer, "datamodule", None)
        if data is None:
            raise RuntimeError(
                "`model.aggregate_on` 'public' needs a FederatedDataModule, but there is none"
            )
        return data


def _public(data: FederatedDataModule) -> Dataset:
    if data.public is None:
        raise ValueError(
            "`data.public` or `data.public_size` is expected where `model.aggregate_on` is "
            "'public', but there is no public set; 'class' does without"
        )
    return data.public
