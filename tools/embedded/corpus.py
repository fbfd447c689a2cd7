"""Translations of the embedded world's public people, as token ids."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from lit_fed.data.embedded.collection import collect
from lit_fed.data.embedded.generator import Pair, Split, draws
from lit_fed.data.embedded.world import world

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TokenPair = tuple[tuple[int, ...], tuple[int, ...]]


def translations(split: Split, count: int, seed: int, references: float = 0.45) -> list[Pair]:
    """Sentences with their right translations, of which a part has references."""
    rng = random.Random(f"pretraining/{split}/{seed}")
    referring = round(references * count)
    streams = [
        draws(split, ["nothing"], frames, rng) for frames in (world().frames, world().references)
    ]
    pairs = collect(streams, [count - referring, referring], set())
    return rng.sample(pairs, len(pairs))


def token_pairs(pairs: list[Pair], tokenizer: PreTrainedTokenizerFast) -> list[TokenPair]:
    """The token ids of both sides, without special tokens."""
    sides = [
        tokenizer([getattr(pair, side) for pair in pairs], add_special_tokens=False).input_ids
        for side in ("english", "chinese")
    ]
    return [(tuple(english), tuple(chinese)) for english, chinese in zip(*sides, strict=True)]
