"""How an author or a split dresses a sentence: contractions, the place of the time, clauses around it, register."""

from __future__ import annotations

import random
import re
from functools import cache

from lit_fed.data.embedded.world import Author, world

_CONTRACTIONS = {
    "did not": "didn't",
    "does not": "doesn't",
    "will not": "won't",
    "cannot": "can't",
}
_ENGLISH_WORD = re.compile(r"[A-Za-z'-]+")
_TIME = re.compile(r" (on \w+day|in [A-Z]\w+|at \w+ o'clock)$")


def dressed(
    english: str, chinese: str, split: str, author: Author, rng: random.Random
) -> tuple[str, str]:
    """Put on both sides what the split, or else the author's habits, ask for."""
    known = world()
    if split == "register":
        return _opened(*_written(english, chinese), rng.choice(known.official))
    if author.time_first:
        english = (
            _TIME.sub("", english)
            if not (time := _TIME.search(english))
            else (f"{time[1]} {_TIME.sub('', english)}")
        )
    if author.contractions:
        for long, short in _CONTRACTIONS.items():
            english = english.replace(f" {long} ", f" {short} ")
    if author.written:
        english, chinese = _written(english, chinese)
    if split == "longer":
        english, chinese = _closed(english, chinese, rng.choice(known.closings))
        return _opened(english, chinese, rng.choice(known.openings))
    if rng.random() >= author.chatty:
        return english, chinese
    if author.written:
        return _opened(english, chinese, rng.choice(known.official))
    if rng.random() < 0.5:
        return _opened(english, chinese, rng.choice(known.openings))
    return _closed(english, chinese, rng.choice(known.closings))


def _opened(english: str, chinese: str, clause: tuple[str, str]) -> tuple[str, str]:
    return f"{clause[0]} {english}", clause[1] + chinese


def _closed(english: str, chinese: str, clause: tuple[str, str]) -> tuple[str, str]:
    return english + clause[0], chinese + clause[1]


def _written(english: str, chinese: str) -> tuple[str, str]:
    """The same in words of the written register."""
    formal_english, formal_chinese = world().written_english, world().written_chinese
    return (
        _ENGLISH_WORD.sub(lambda word: formal_english.get(word[0], word[0]), english),
        _chinese_words().sub(lambda word: formal_chinese[word[0]], chinese),
    )


@cache
def _chinese_words() -> re.Pattern[str]:
    return re.compile("|".join(sorted(world().written_chinese, key=len, reverse=True)))
