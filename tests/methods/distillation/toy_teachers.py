"""Teachers of toy classifiers: another BERT, and a Llama with words and a width of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn

from lit_fed.backbones import SequenceClassifier
from lit_fed.methods.teachers import FrozenTeacher
from tests.federation.toy import toy_rows

WHOLE = toy_rows(70, 0)
"""The training table of :func:`tests.methods.plain_loop.recorded`."""


def llama_classifier(folder: Path, seed: int = 5) -> SequenceClassifier:
    """The toy Llama as a classifier with a head that says something, of width 16."""
    torch.manual_seed(seed)
    backbone = SequenceClassifier(str(folder), num_labels=2, peft=None)
    with torch.no_grad():
        backbone.model.score.weight.normal_(0.0, 2.0)
    return backbone


def llama_teacher(folder: Path, **settings: Any) -> FrozenTeacher:
    return FrozenTeacher(llama_classifier(folder), **settings)


def read_by(
    backbone: SequenceClassifier, model: nn.Module, batch: dict[str, Tensor], rows: Dataset
) -> Tensor:
    """A model's logits of the texts of a batch's rows, without code of the library."""
    texts = [rows[int(i)]["text"] for i in batch["index"]]
    tokens = backbone.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        found: Tensor = model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).logits
    return found
