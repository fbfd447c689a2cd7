"""What a sentence pattern of the embedded grammar is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lit_fed.data.embedded.words import Word

Task = Literal["lexical", "sentence", "coreference"]
Cast = Literal["one", "two", "woman and man"]

FORM = "form"


@dataclass(frozen=True, eq=False)
class Frame:
    """A sentence pattern in both languages.

    A frame has one or more ``forms`` that differ in meaning (affirmative and negative, A helps B and B
    helps A, the pronoun means A and it means B), and slots that words fill. Every choice is made
    independently of the others, so exchanging one of them on the Chinese side leaves both
    sides as likely as before: neither side alone tells whether they agree.

    Templates are :meth:`str.format` strings over the people ``a`` and ``b``, the slots by their names, and
    the author's habits: ``first`` and ``last`` (where the time stands), ``will``, ``together``
    (和 or 跟) and ``now`` (正在 or 在).

    Attributes:
        name: Unique name.
        cast: How many people it takes, and whether their genders have to differ.
        forms: Pairs of an English and a Chinese template.
        slots: The words that each slot may hold.
        varies: For every task, the slots that the task may exchange; ``form`` exchanges the form.
        formal: Whether it is written language only.
    """

    name: str
    cast: Cast
    forms: tuple[tuple[str, str], ...]
    slots: Mapping[str, tuple[Word, ...]]
    varies: Mapping[Task, tuple[str, ...]]
    formal: bool = field(default=False, kw_only=True)
