"""A method with prototypes: a set, an encoder of counted words, and dropped rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from lit_fed import FedAvg
from lit_fed.methods.prototype_defense import Dropped
from lit_fed.prototypes import PrototypeSet
from tests.federation.toy import BAD, FILLER, GOOD, fast_adamw, toy_backbone, toy_rows

WORDS = [*GOOD, *BAD, *FILLER]


def embed(texts: Sequence[str]) -> Tensor:
    """How often each word is in a text; good and bad ones count more than others."""
    counts = [[float(text.split().count(word)) for word in WORDS] for text in texts]
    weights = torch.tensor([3.0] * (len(GOOD) + len(BAD)) + [0.3] * len(FILLER))
    return torch.tensor(counts).reshape(len(texts), len(WORDS)) * weights


def prototypes(version: int = 0, moved: float = 0.0) -> PrototypeSet:
    """Four of each class, the last with a wrong one, and one without a class that nothing is near."""
    rows = toy_rows(40, 9)
    labels, texts = torch.tensor(rows["label"][:]), rows["text"][:]
    places = [i for label in (0, 1) for i in (labels == label).nonzero().flatten().tolist()[:4]]
    vectors = torch.cat([embed([texts[i] for i in places]), -torch.ones(1, len(WORDS))])
    vectors[0] += moved * torch.arange(len(WORDS))
    classes = torch.cat([labels[places], torch.tensor([-1])])
    classes[7] = 0
    near = tuple((texts[i], texts[i + 1]) for i in places)
    counts = torch.arange(9)
    return PrototypeSet(
        normalize(vectors, dim=-1), classes, counts, version, "a1b2c3", (*near, ()), ("bad", "good")
    )


class Prototyped(FedAvg):
    """Has prototypes from round 1 on, whose version goes up with each round."""

    def __init__(self, *args: Any, texts: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.texts = texts
        self.rounds = 0
        self.moved = 0.5

    @property
    def prototypes(self) -> PrototypeSet:
        if not self.rounds:
            raise RuntimeError("there are none yet")
        return prototypes(self.rounds, self.moved * self.rounds)

    def aggregate(self, updates: Any) -> Any:
        self.rounds += 1
        return super().aggregate(updates)

    def embed(self, texts: Sequence[str]) -> Tensor:
        return embed(texts)

    def dropped(self, client_id: str) -> Sequence[Dropped]:
        if client_id != "client-1":
            return ()
        return [
            Dropped(text, "good", "bad", 0.5, "nearest prototype is of another class")
            for text in self.texts
        ]


def prototyped(model: Any, texts: Sequence[str] = ()) -> Prototyped:
    return Prototyped(toy_backbone(model), texts=texts, optimizer=fast_adamw, warmup_steps=0)
