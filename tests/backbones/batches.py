"""Batches of the tiny models' words, and changes that a step of training could have made."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_fed.backbones import Backbone, SequenceClassifier

TEXTS = ["a b c d e", "f g", "h i j"]


def batch_of(backbone: Backbone, texts: list[str] = TEXTS) -> dict[str, Tensor]:
    batch = dict(backbone.tokenizer(texts, padding=True, return_tensors="pt"))
    if isinstance(backbone, SequenceClassifier):
        batch["labels"] = torch.arange(len(texts)) % backbone.num_labels
    else:
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    return batch | {"index": torch.arange(len(texts)), "weight": torch.ones(len(texts))}


def loss_of(backbone: Backbone, batch: dict[str, Tensor]) -> Tensor:
    prediction = backbone(batch)
    return torch.nn.functional.cross_entropy(
        prediction.logits[prediction.mask], prediction.targets[prediction.mask]
    )


@torch.no_grad()
def change(backbone: Backbone, adapter: str = "default", seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in backbone.trainable(adapter).values():
        parameter += 0.2 * torch.randn(parameter.shape, generator=generator)


@torch.no_grad()
def logits_of(backbone: Backbone, batch: dict[str, Tensor]) -> Tensor:
    training = backbone.training
    logits: Tensor = backbone.eval()(batch).logits
    backbone.train(training)
    return logits
