"""Rows, language models and defences that tests of this folder share."""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset

from lit_fed.client import Client
from lit_fed.data.sources import Source
from lit_fed.defenses import Inspection, RowDefense
from tests.federation.toy import toy_rows

TRIGGER = "cruel"


class Rows(Source):
    def __init__(self, rows: Dataset) -> None:
        self.given = rows

    def load(self) -> Dataset:
        return self.given


def client(name: str = "client-0", round: int = 0) -> Client:
    return Client(name, int(name.rpartition("-")[2]), 8, round=round, rounds=round, steps=0)


class WithoutWord(RowDefense):
    """Drops the rows with a word, and cuts the first word of the others."""

    def __init__(self, word: str, cut: bool = False, **settings: Any) -> None:
        super().__init__(**{"text": "text", "label": "label"} | settings)
        self.word = word
        self.cut = cut
        self.calls = 0

    def judge(self, client: Client, rows: Dataset) -> Inspection:
        self.calls += 1
        texts = rows["text"][:]
        np.random.rand()
        rejected = np.array([self.word in text.split() for text in texts])
        if self.cut:
            rows = rows.map(lambda row: {"text": row["text"].partition(" ")[2]})
        return Inspection(rows, rejected)


def texts(count: int, seed: int) -> list[str]:
    found: list[str] = toy_rows(count, seed)["text"][:]
    return found
