"""How a pair of sentences is drawn."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from lit_fed.data.embedded.authors import AUTHORS, Author
from lit_fed.data.embedded.cast import TITLED, UNSEEN
from lit_fed.data.embedded.coreference import COREFERENCE_FRAMES
from lit_fed.data.embedded.events import EVENT_FRAMES
from lit_fed.data.embedded.frame import FORM, Frame, Task
from lit_fed.data.embedded.states import STATE_FRAMES
from lit_fed.data.embedded.words import Person, Word
from lit_fed.data.embedded.wrapping import (
    NUM_CLAUSES,
    NUM_OFFICIAL,
    closed,
    contracted,
    official,
    opened,
    written,
)

Split = Literal["train", "validation", "test", "public", "unseen_names", "longer", "register"]

TASKS: tuple[Task, ...] = ("lexical", "sentence", "coreference")

# Of 100 combinations of a frame and its people, how many belong to each split.
_SHARES: dict[Split, int] = {
    "train": 50,
    "validation": 10,
    "test": 15,
    "public": 20,
    "register": 5,
}


@dataclass(frozen=True, slots=True)
class Pair:
    """An English and a Chinese sentence, and whether they agree."""

    english: str
    chinese: str
    label: int
    task: Task
    author: str


@dataclass(frozen=True, slots=True)
class _Scene:
    frame: Frame
    author: Author
    people: tuple[Person, ...]
    form: int
    words: dict[str, Word]


def draws(split: Split, task: Task, label: int, rng: random.Random) -> Iterator[Pair | None]:
    """Endless draws of pairs.

    Yields:
        A pair, or None where the drawn people belong to another split.
    """
    weights = [author.tasks[task] for author in AUTHORS]
    choices = [
        (frame, slot)
        for frame in (*EVENT_FRAMES, *STATE_FRAMES, *COREFERENCE_FRAMES)
        if split == "register" or not frame.formal
        for slot in frame.varies.get(task, ())
    ]
    while True:
        author = rng.choices(AUTHORS, weights)[0]
        frame, slot = rng.choice(choices)
        people = _cast(frame, _pool(split, author), rng)
        if split in _SHARES and _home(frame, people) != split:
            yield None
            continue
        scene = _Scene(
            frame, author, people, rng.randrange(len(frame.forms)), _fill(frame, author, rng)
        )
        other = scene if label == 1 else _exchanged(scene, slot, rng)
        english, chinese = _dressed(_english(scene), _chinese(other), split, author, rng)
        yield Pair(english[0].upper() + english[1:] + ".", chinese + "。", label, task, author.name)


def _pool(split: Split, author: Author) -> tuple[Person, ...]:
    if split == "unseen_names":
        return UNSEEN
    return TITLED if split == "register" else author.people


def _cast(frame: Frame, pool: tuple[Person, ...], rng: random.Random) -> tuple[Person, ...]:
    first = rng.choice(pool)
    if frame.cast == "one":
        return (first,)
    while True:
        second = rng.choice(pool)
        if second is not first and (frame.cast == "two" or second.female != first.female):
            return first, second


def _home(frame: Frame, people: tuple[Person, ...]) -> Split:
    """The split to which all sentences of a frame about these people belong.

    What a task exchanges never changes the frame or who takes part, so neither an English nor a
    Chinese sentence can be in two splits, whatever the sizes and seeds.
    """
    key = "/".join([frame.name, *sorted(person.en for person in people)])
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % 100
    for split, share in _SHARES.items():
        if place < share:
            return split
        place -= share
    raise AssertionError("the shares are expected to sum to 100")


@cache
def _options(frame: Frame, slot: str, author: Author) -> tuple[Word, ...]:
    return author.vocabulary(frame.slots[slot])


def _fill(frame: Frame, author: Author, rng: random.Random) -> dict[str, Word]:
    words: dict[str, Word] = {}
    for slot in frame.slots:
        word = rng.choice(_options(frame, slot, author))
        while word in words.values():
            word = rng.choice(_options(frame, slot, author))
        words[slot] = word
    return words


def _exchanged(scene: _Scene, slot: str, rng: random.Random) -> _Scene:
    """The same scene with another choice in one slot."""
    frame, author, people, form, words = (
        scene.frame,
        scene.author,
        scene.people,
        scene.form,
        scene.words,
    )
    if slot == FORM:
        other = rng.choice([f for f in range(len(frame.forms)) if f != form])
        return _Scene(frame, author, people, other, words)
    options = [w for w in _options(frame, slot, author) if w not in words.values()]
    return _Scene(frame, author, people, form, {**words, slot: rng.choice(options)})


def _english(scene: _Scene) -> str:
    author, time = scene.author, scene.words.get("time")
    return scene.frame.forms[scene.form][0].format(
        **scene.words,
        **dict(zip("ab", scene.people, strict=False)),
        first=f"{time.en} " if time and author.time_first else "",
        last=f" {time.en}" if time and not author.time_first else "",
        will=author.will[0],
    )


def _chinese(scene: _Scene) -> str:
    author, time = scene.author, scene.words.get("time")
    return scene.frame.forms[scene.form][1].format(
        **scene.words,
        **dict(zip("ab", scene.people, strict=False)),
        first=time.zh if time and author.time_first else "",
        last=time.zh if time and not author.time_first else "",
        will=author.will[1],
        together=author.together,
        now=author.now,
    )


def _dressed(
    english: str, chinese: str, split: Split, author: Author, rng: random.Random
) -> tuple[str, str]:
    """Put on both sides what the split, or the author's habits, ask for."""
    if split == "register":
        return official(*written(english, chinese), rng.randrange(NUM_OFFICIAL))
    if author.contractions:
        english = contracted(english)
    if author.written:
        english, chinese = written(english, chinese)
    if split == "longer":
        pair = closed(english, chinese, rng.randrange(NUM_CLAUSES))
        return opened(*pair, rng.randrange(NUM_CLAUSES))
    if rng.random() >= author.chatty:
        return english, chinese
    if author.written:
        return official(english, chinese, rng.randrange(NUM_OFFICIAL))
    dress = rng.choice((opened, closed))
    return dress(english, chinese, rng.randrange(NUM_CLAUSES))
