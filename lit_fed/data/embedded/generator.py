"""Drawing of sentence pairs: a scene, its two sides, and what is wrong with the translation."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from lit_fed.data.embedded.style import dressed
from lit_fed.data.embedded.world import Author, Frame, Person, Word, world

Split = Literal["train", "validation", "test", "public", "unseen_names", "longer", "register"]
Mistake = Literal["nothing", "thing", "action", "figure", "sense", "role", "reference"]

# Of 100 combinations of a frame and its people, how many belong to each split.
_SHARES: dict[Split, int] = {
    "train": 40,
    "validation": 15,
    "test": 25,
    "longer": 10,
    "register": 10,
}
# Where words are not exchanged at will, the wrong one is of the same group this often.
_ALIKE = 0.8


@dataclass(frozen=True, slots=True)
class Scene:
    """What a sentence says: a frame whose slots are filled."""

    frame: Frame
    author: Author
    people: tuple[Person, Person]
    words: dict[str, Word]
    meant: int = 0  # which of the two people a reference means


@dataclass(frozen=True, slots=True)
class Pair:
    """An English sentence and a Chinese one, what is wrong with it, and who wrote them."""

    english: str
    chinese: str
    mistake: Mistake
    author: str


def draws(
    split: Split,
    mistakes: Sequence[Mistake],
    frames: Sequence[Frame],
    rng: random.Random,
    author: str | None = None,
    alike: bool = False,
) -> Iterator[Pair | None]:
    """Endless draws of pairs.

    Args:
        split: Whose people, and whose combinations of a frame with its people.
        mistakes: What may be wrong; one is drawn for every pair.
        frames: The frames to draw from.
        rng: The source of randomness.
        author: The author of all of them. None: any.
        alike: Whether wrong words are mostly those that are like the right one.

    Yields:
        A pair, or None where the drawn people belong to another split.
    """
    authors = list(world().authors.values())
    while True:
        mistake = rng.choice(mistakes)
        who = rng.choice(authors) if author is None else world().authors[author]
        frame = rng.choice(frames)
        people = _cast(frame, _people(split, who), rng)
        if split in _SHARES and _home(frame, people) != split:
            yield None
            continue
        words = _words(frame, who, split, rng)
        scene = Scene(frame, who, people, words, rng.randrange(2))
        other = _mistaken(scene, mistake, split, rng, alike)
        english, chinese = dressed(_english(scene), _chinese(other), split, who, rng)
        yield Pair(english[0].upper() + english[1:] + ".", chinese + "。", mistake, who.name)


def _people(split: Split, author: Author) -> tuple[Person, ...]:
    people = world().people
    if split == "public":
        return people["public"]
    return people["unseen" if split == "unseen_names" else author.name]


def _cast(frame: Frame, pool: Sequence[Person], rng: random.Random) -> tuple[Person, Person]:
    first, second = rng.sample(pool, 2)
    # a pronoun has to tell the two
    while not frame.kinds and second.female == first.female:
        second = rng.choice(pool)
    return first, second


def _words(frame: Frame, author: Author, split: Split, rng: random.Random) -> dict[str, Word]:
    words: dict[str, Word] = {}
    for slot in frame.slots:
        options = _options(frame, slot, author, split)
        word = rng.choice(options)
        while word in words.values():
            word = rng.choice(options)
        words[slot] = word
    return words


@cache
def _home(frame: Frame, people: tuple[Person, Person]) -> Split:
    """The split to which all sentences of a frame about these people belong.

    No mistake changes the frame or who takes part, so neither an English nor a Chinese sentence can be
    in two splits, whatever the sizes and seeds.
    """
    key = "/".join([frame.name, *sorted(person.en for person in people)])
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % 100
    for split, share in _SHARES.items():
        if place < share:
            return split
        place -= share
    raise AssertionError("the shares are expected to sum to 100")


@cache
def _options(frame: Frame, slot: str, author: Author, split: Split) -> tuple[Word, ...]:
    """The words that an author uses in a slot, in their order; the public sentences have them all.

    Of things they know their own groups, of every other list the half of each group, two words at least.
    What an author knows does not depend on any seed.
    """
    words = frame.slots[slot]
    if split == "public":
        return words
    if any(word.group in author.domains for word in words):
        return tuple(word for word in words if word.group in author.domains)
    known: set[Word] = set()
    for group in dict.fromkeys(word.group for word in words):
        ranked = sorted(
            (word for word in words if word.group == group),
            key=lambda word: hashlib.sha256(f"{author.name}/{word.en}/{word.zh}".encode()).digest(),
        )
        known.update(ranked[: max(2, (len(ranked) + 1) // 2)])
    return tuple(word for word in words if word in known)


def _mistaken(
    scene: Scene, mistake: Mistake, split: Split, rng: random.Random, alike: bool
) -> Scene:
    """The same scene with one thing wrong."""
    if mistake == "nothing":
        return scene
    if mistake == "role":
        first, second = scene.people
        return replace(scene, people=(second, first))
    if mistake == "reference":
        return replace(scene, meant=1 - scene.meant)
    slot = rng.choice(scene.frame.kinds[mistake])
    right = scene.words[slot]
    options = [
        word
        for word in _options(scene.frame, slot, scene.author, split)
        if word not in scene.words.values() and word.zh != right.zh
    ]
    like = [word for word in options if word.group == right.group]
    if alike and like and rng.random() < _ALIKE:
        options = like
    return replace(scene, words={**scene.words, slot: rng.choice(options)})


def _english(scene: Scene) -> str:
    frame, words = scene.frame, scene.words
    template = frame.english[scene.meant if len(frame.english) > 1 else 0]
    do = ""
    if "sense" in words:
        sense, verb = words["sense"], words["verb"]
        will = sense.en.replace("will", scene.author.will[0], 1) if "not" not in sense.en else ""
        do = f"{will or sense.en} {verb.past if sense.form == 'past' else verb.en}".strip()
    first, second = scene.people
    return template.format(
        a=_Name(first, "en"),
        b=_Name(second, "en"),
        x=_Name(scene.people[scene.meant], "en"),
        do=do,
        **words,
    )


def _chinese(scene: Scene) -> str:
    words = scene.words
    sense = words.get("sense")
    said = sense.zh if sense else ""
    first, second = scene.people
    return scene.frame.chinese.format(
        a=_Name(first, "zh"),
        b=_Name(second, "zh"),
        x=_Name(scene.people[scene.meant], "zh"),
        y=_Name(scene.people[1 - scene.meant], "zh"),
        together=scene.author.together,
        done=sense.done if sense else "",
        **{**words, "sense": scene.author.will[1] if said == "会" else said},
    )


class _Name:
    """A person as a template shows them: the name in one language, or a pronoun."""

    def __init__(self, person: Person, language: Literal["en", "zh"]) -> None:
        self._person = person
        self._language = language

    def __getattr__(self, form: str) -> str:
        return str(getattr(self._person, form))

    def __format__(self, spec: str) -> str:
        return str(getattr(self._person, self._language))
