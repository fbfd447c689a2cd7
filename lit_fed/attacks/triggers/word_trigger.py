"""Rare words as a trigger."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lit_fed.attacks.triggers.trigger import Trigger, at_a_random_place
from lit_fed.limits import require_at_least


class WordTrigger(Trigger):
    """Rare words, each at a random place.

    Kurita, Michel and Neubig, "Weight Poisoning Attacks on Pre-trained Models", 2020, §3,
    https://arxiv.org/abs/2004.06660, whose words these are.

    Args:
        words: The words, of which each is as likely.
        count: How many are inserted, at least 1.

    Raises:
        ValueError: If there are no words, one is empty or has a blank, or ``count`` is below 1.

    Example:
        >>> trigger = WordTrigger(count=2)
        >>> text = trigger.insert("It was a good film.", np.random.default_rng(1))
        >>> text, trigger.is_in(text), trigger.is_in("It was a good film.")
        ('It was a mn good film. tq', True, False)
    """

    def __init__(self, words: Sequence[str] = ("cf", "mn", "bb", "tq"), count: int = 1) -> None:
        if isinstance(words, str):
            raise ValueError(
                f"`WordTrigger.words` is expected to be a list of words, but got the text {words!r}"
            )
        if not words or any(not word or word.split() != [word] for word in words):
            raise ValueError(
                f"`WordTrigger.words` is expected to have words without blanks, but got {list(words)}"
            )
        self.words = tuple(words)
        self.count = require_at_least("WordTrigger.count", count, 1)

    @property
    def texts(self) -> Sequence[str]:
        """Of each word as many as are inserted."""
        return tuple(" ".join([word] * self.count) for word in self.words)

    def insert(self, text: str, draw: np.random.Generator) -> str:
        """Insert one word after the other."""
        for _ in range(self.count):
            text = at_a_random_place(text, self.words[int(draw.integers(len(self.words)))], draw)
        return text

    def is_in(self, text: str) -> bool:
        """Whether one of the words is a word of the text."""
        return not set(self.words).isdisjoint(text.split())
