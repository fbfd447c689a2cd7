"""The unlabelled translations on which the embedded backbones are pre-trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lit_fed.backbones.embedded.recipe import Recipe
from lit_fed.backbones.embedded.tokenizer import embedded_tokenizer
from lit_fed.data.embedded_pairs import EmbeddedPairs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TokenPair = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Corpus:
    """Pairs of English and Chinese token ids without special tokens, and their tokenizer."""

    tokenizer: PreTrainedTokenizerFast
    pairs: list[TokenPair]
    held_out: list[TokenPair]


def read_corpus(recipe: Recipe) -> Corpus:
    """Take the translations of the public split: its pairs that agree.

    Of the others only the vocabulary is counted.
    """
    count = recipe.pairs + recipe.held_out
    rows = EmbeddedPairs("public", size=2 * count, seed=recipe.seed).load()
    tokenizer = embedded_tokenizer([row[side] for row in rows for side in ("english", "chinese")])
    agreeing = [row for row in rows if row["label"] == 1]
    english, chinese = ([row[side] for row in agreeing] for side in ("english", "chinese"))
    sides = [tokenizer(side, add_special_tokens=False)["input_ids"] for side in (english, chinese)]
    pairs = [(tuple(en), tuple(zh)) for en, zh in zip(*sides, strict=True)]
    return Corpus(tokenizer, pairs[: recipe.pairs], pairs[recipe.pairs :])
