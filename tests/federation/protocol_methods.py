"""Three small methods that exchange three different things over one protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import cycle

import torch
import torch.nn.functional as F
from datasets import Dataset, concatenate_datasets
from torch import Tensor

from lit_fed import FederatedModule, Payload
from lit_fed.aggregation import WeightedAverage
from lit_fed.backbones import Backbone
from lit_fed.client import Client
from lit_fed.losses import cross_entropy
from lit_fed.stage import Stage
from lit_fed.update import Update


def task_loss(module: FederatedModule, batch: dict[str, Tensor]) -> Tensor:
    student = module(batch)
    return cross_entropy(student.logits, student.targets, student.mask)


class SoftPredictions(FederatedModule):
    """Clients send weights and soft predictions on the public set; the server sends the mixture back."""

    mixture: Tensor | None = None

    def initial_broadcast(self) -> Payload:
        return Payload(self.backbone.trainable())

    def download(self, broadcast: Payload) -> None:
        self.backbone.load_trainable(broadcast.matching(self.backbone.trainable()))
        self.mixture = broadcast.tensors.get("predictions")

    def start_stage(self, stage: str) -> None:
        self.public = cycle(self.public_batches()) if self.mixture is not None else None

    def public_batches(self) -> list[dict[str, Tensor]]:
        return list(self.batches(self.datamodule.public))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = task_loss(self, batch)
        if self.public is not None:
            public = next(self.public)
            log_p = self(public).logits.log_softmax(-1)
            loss = loss + F.kl_div(log_p, self.mixture[public["index"]], reduction="batchmean")
        self.log("train/loss", loss)
        return loss

    @torch.no_grad()
    def upload(self) -> Payload:
        soft = torch.cat([self(batch).logits.softmax(-1) for batch in self.public_batches()])
        return Payload({**self.backbone.trainable(), "predictions": soft})

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        return WeightedAverage()(updates, Payload())


class Answers(FederatedModule):
    """Clients have different models and tokenizers and exchange strings alone, their answers."""

    has_global_model = False

    def __init__(self, backbones: Sequence[Backbone], **kwargs: object) -> None:
        super().__init__(backbones[0], **kwargs)  # type: ignore[arg-type]
        self.models = torch.nn.ModuleList(backbones)

    def act_as(self, client: Client | None) -> None:
        super().act_as(client)
        self.backbone = self.models[client.index % len(self.models) if client else 0]

    def private_state(self) -> Payload:
        return Payload(self.backbone.trainable())

    def load_private_state(self, state: Payload) -> None:
        self.backbone.load_trainable(state.tensors)

    def download(self, broadcast: Payload) -> None:
        self.answers = broadcast.strings.get("answers")

    def local_data(self, rows: Dataset, stage: str) -> Dataset:
        if self.answers is None:
            return rows
        public = self.datamodule.public.remove_columns("label")
        labels = [int(answer == "good") for answer in self.answers]
        return concatenate_datasets([rows, public.add_column("label", labels)])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return task_loss(self, batch)

    @torch.no_grad()
    def upload(self) -> Payload:
        top = torch.cat([self(b).logits for b in self.batches(self.datamodule.public)]).argmax(-1)
        return Payload(strings={"answers": [("bad", "good")[c] for c in top.tolist()]})

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        votes = zip(*(u.payload.strings["answers"] for u in updates), strict=True)
        return Payload(strings={"answers": [Counter(v).most_common(1)[0][0] for v in votes]})


class TwoAdapters(FederatedModule):
    """A client trains its own adapter, then the shared one on top of it, and sends the shared one."""

    stages = (Stage("private"), Stage("shared"))

    def __init__(self, backbone: Backbone, **kwargs: object) -> None:
        super().__init__(backbone, **kwargs)  # type: ignore[arg-type]
        backbone.add_adapter("private")
        backbone.activate("default", "private")

    def initial_broadcast(self) -> Payload:
        return self.upload()

    def download(self, broadcast: Payload) -> None:
        self.backbone.load_trainable(broadcast.tensors)

    def start_stage(self, stage: str) -> None:
        self.backbone.train_adapter("private" if stage == "private" else "default")

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return task_loss(self, batch)

    def upload(self) -> Payload:
        return Payload(self.backbone.trainable())

    def private_state(self) -> Payload:
        return Payload(self.backbone.trainable("private"))

    def load_private_state(self, state: Payload) -> None:
        self.backbone.load_trainable(state.tensors, "private")

    def aggregate(self, updates: Sequence[Update]) -> Payload:
        return WeightedAverage()(updates, Payload())
