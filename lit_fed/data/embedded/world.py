"""The embedded world as it is read from its file: words, people, sentence frames and authors."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Word:
    """A word or phrase in both languages with the forms that the templates ask for.

    One class serves every part of speech, so that any slot of a template can hold any of them; a form
    that a part of speech does not have is empty.

    Attributes:
        en: English base form, of a verb the infinitive.
        zh: Chinese.
        group: The words of a list that are alike have the same group.
        plural: English plural of a noun.
        measure: Chinese measure word of a noun.
        past: English past tense of a verb.
        ing: English present participle of a verb.
        form: Of a sense, the form of the verb after it: ``en`` or ``past``.
        done: Of a sense, what stands behind the Chinese verb.
    """

    en: str
    zh: str
    group: str = ""
    plural: str = ""
    measure: str = ""
    past: str = ""
    ing: str = ""
    form: str = ""
    done: str = ""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in a sentence: a name in both languages and the gender that the pronouns need."""

    en: str
    zh: str
    female: bool

    @property
    def she(self) -> str:
        """The pronoun as a subject."""
        return "she" if self.female else "he"

    @property
    def her(self) -> str:
        """The pronoun before a noun."""
        return "her" if self.female else "his"

    @property
    def his(self) -> str:
        """The pronoun in place of a noun."""
        return "hers" if self.female else "his"

    @property
    def him(self) -> str:
        """The pronoun as an object."""
        return "her" if self.female else "him"

    @property
    def herself(self) -> str:
        """The reflexive pronoun."""
        return "herself" if self.female else "himself"


@dataclass(frozen=True, eq=False)
class Frame:
    """A sentence pattern in both languages.

    Attributes:
        name: Unique name.
        english: One template, or two: of a frame that refers, one for each person who may be meant.
        chinese: The template.
        slots: The words that each slot may hold.
        kinds: For every kind of mistake, the slots of which one is exchanged. Empty for a frame that refers.
    """

    name: str
    english: tuple[str, ...]
    chinese: str
    slots: Mapping[str, tuple[Word, ...]]
    kinds: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Author:
    """Somebody with subjects, acquaintances and habits of their own: a client of a natural partition.

    Attributes:
        name: The client's id.
        domains: Groups of things that they write about.
        will: How they write the future, in English and in Chinese.
        together: 和 or 跟.
        contractions: Writes didn't for did not.
        time_first: Puts the time first.
        written: Uses the words of the written register.
        chatty: Share of sentences with an opening or a closing clause, official where ``written``.
    """

    name: str
    domains: tuple[str, ...]
    will: tuple[str, str] = ("will", "会")
    together: str = "和"
    contractions: bool = False
    time_first: bool = False
    written: bool = False
    chatty: float = 0.1


@dataclass(frozen=True, eq=False)
class World:
    """All of it, see ``world.yaml``.

    Attributes:
        words: Lists of words by name.
        frames: Frames that can be wrong in every way.
        references: Frames in which the English side refers to a person by a pronoun or not at all.
        authors: The authors by name.
        people: Whom each author writes about, by the author's name, with those of the ``public`` sentences and
            those who are ``unseen`` anywhere else. No name belongs to two.
        openings: Clauses before a sentence, in both languages.
        closings: Clauses behind it.
        official: Openings of the written register.
        written_english: Words and those of the written register.
        written_chinese: The same in Chinese.
    """

    words: Mapping[str, tuple[Word, ...]]
    frames: tuple[Frame, ...]
    references: tuple[Frame, ...]
    authors: Mapping[str, Author]
    people: Mapping[str, tuple[Person, ...]]
    openings: tuple[tuple[str, str], ...]
    closings: tuple[tuple[str, str], ...]
    official: tuple[tuple[str, str], ...]
    written_english: Mapping[str, str]
    written_chinese: Mapping[str, str]


@cache
def world() -> World:
    """The embedded world, read once.

    Example:
        >>> [word.zh for word in world().words["things"][:3]]
        ['碗', '杯子', '盘子']
    """
    text = files("lit_fed.data.embedded").joinpath("world.yaml").read_text(encoding="utf-8")
    raw: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    words = {name: tuple(_words(table)) for name, table in raw["words"].items()}
    authors = {name: _author(name, settings) for name, settings in raw["authors"].items()}
    return World(
        words,
        frames=tuple(_frame(name, table, words) for name, table in raw["frames"].items()),
        references=tuple(_frame(name, table, words) for name, table in raw["references"].items()),
        authors=authors,
        people=_people(raw["syllables"], tuple(authors)),
        openings=_pairs(raw["openings"]),
        closings=_pairs(raw["closings"]),
        official=_pairs(raw["official"]),
        written_english=dict(_pairs(raw["written english"])),
        written_chinese=dict(_pairs(raw["written chinese"])),
    )


def _author(name: str, settings: dict[str, Any]) -> Author:
    habits: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    return Author(name, **habits)


def _pairs(table: str) -> tuple[tuple[str, str], ...]:
    return tuple((english, chinese) for english, chinese in _cells(table))


def _cells(table: str) -> Iterator[tuple[str, ...]]:
    for line in table.strip().splitlines():
        yield tuple(cell.strip() for cell in line.split("|"))


def _words(table: Mapping[str, Any]) -> Iterator[Word]:
    fields = [name.strip() for name in table["fields"].split("|")]
    for group, lines in table["groups"].items():
        for cells in _cells(lines):
            yield Word(**dict(zip(fields, cells, strict=True)), group=group)


def _frame(name: str, table: Mapping[str, Any], words: Mapping[str, tuple[Word, ...]]) -> Frame:
    english = table["english"]
    kinds: dict[str, tuple[str, ...]] = {}
    if "figure" in table:
        kinds = {
            "thing": tuple(table["thing"]),
            "action": tuple(table.get("action", ["verb"])),
            "figure": tuple(table["figure"]),
            "sense": ("sense",),
        }
    slots = {slot: words[which] for slot, which in table["slots"].items()}
    if kinds:
        slots["sense"] = words["senses"]
    return Frame(
        name,
        (english,) if isinstance(english, str) else tuple(english),
        table["chinese"],
        slots,
        kinds,
    )


def _people(table: Mapping[str, Any], authors: tuple[str, ...]) -> dict[str, tuple[Person, ...]]:
    """Names of women and men by turns, drawn once for all: each belongs to one group of people alone."""
    beginnings = _syllables(table["beginnings"])
    endings = {True: _syllables(table["women"]), False: _syllables(table["men"])}
    rng = random.Random("people")
    names: dict[str, Person] = {}

    def draw(female: bool) -> Person:
        while True:
            count = rng.choice((1, 2, 2))
            syllables = [*rng.sample(beginnings, count), rng.choice(endings[female])]
            english = "".join(en for en, _ in syllables).capitalize()
            if english not in names:
                names[english] = Person(english, "".join(zh for _, zh in syllables), female)
                return names[english]

    known = table["known"]
    counts = {
        "public": known["public"],
        **dict.fromkeys(authors, known["authors"]),
        "unseen": known["unseen"],
    }
    return {
        group: tuple(draw(which % 2 == 0) for which in range(count))
        for group, count in counts.items()
    }


def _syllables(table: str) -> list[tuple[str, str]]:
    pairs = [pair.split() for pair in table.replace("\n", "|").split("|") if pair.strip()]
    return [(en, zh) for en, zh in pairs]
