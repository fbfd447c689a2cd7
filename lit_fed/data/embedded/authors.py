"""The authors of the embedded pairs: a natural division of the data that is not IID."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from lit_fed.data.embedded.cast import CHINESE, TITLED, UNNAMED, WESTERN
from lit_fed.data.embedded.frame import Task
from lit_fed.data.embedded.words import Person, Word

_FEW_WORDS = 7
_SHARE_OF_WORDS = 0.7


@dataclass(frozen=True, eq=False)
class Author:
    """Somebody with subjects, acquaintances and habits of their own.

    Attributes:
        name: The client id in a natural partition.
        domains: Subjects from which objects are taken.
        people: Whom they write about.
        tasks: How often each task is theirs, relative to the other authors.
        contractions: Writes didn't for did not.
        time_first: Puts the time first, in both languages.
        will: How they write the future, in English and in Chinese.
        together: 和 or 跟.
        now: 正在 or 在.
        written: Uses the words of the written register.
        chatty: Share of sentences with an opening or a closing clause, official where ``written``.
    """

    name: str
    domains: tuple[str, ...]
    people: tuple[Person, ...]
    tasks: Mapping[Task, float] = field(
        default_factory=lambda: {"lexical": 1.0, "sentence": 1.0, "coreference": 1.0}
    )
    contractions: bool = False
    time_first: bool = False
    will: tuple[str, str] = ("will", "会")
    together: str = "和"
    now: str = "正在"
    written: bool = False
    chatty: float = 0.1

    def vocabulary(self, words: tuple[Word, ...]) -> tuple[Word, ...]:
        """The words that this author uses, in their order.

        Objects go by subject, and of other long lists the author uses a part of their own. A person's
        words do not depend on any seed.

        Example:
            >>> from lit_fed.data.embedded.nouns import OBJECTS
            >>> [word.en for word in AUTHORS[2].vocabulary(OBJECTS)][-3:]
            ['shovel', 'bucket', 'rope']
        """
        if any(word.domain for word in words):
            return tuple(word for word in words if word.domain in self.domains)
        if len(words) <= _FEW_WORDS:
            return words
        ranked = sorted(
            words, key=lambda word: hashlib.sha256(f"{self.name}/{word.en}".encode()).digest()
        )
        own = set(ranked[: max(_FEW_WORDS, round(_SHARE_OF_WORDS * len(words)))])
        return tuple(word for word in words if word in own)


AUTHORS: tuple[Author, ...] = (
    Author(
        "teacher",
        ("school", "office", "travel"),
        CHINESE + TITLED,
        {"lexical": 1.5, "sentence": 1.0, "coreference": 0.6},
        together="跟",
    ),
    Author(
        "cook",
        ("kitchen", "food", "home"),
        WESTERN[:3] + WESTERN[5:8] + UNNAMED,
        {"lexical": 1.6, "sentence": 0.8, "coreference": 0.8},
        time_first=True,
    ),
    Author(
        "farmer",
        ("farm", "food"),
        CHINESE + UNNAMED,
        {"lexical": 1.0, "sentence": 0.7, "coreference": 0.7},
        now="在",
    ),
    Author(
        "tailor",
        ("clothes", "home"),
        WESTERN[3:5] + WESTERN[8:] + TITLED,
        {"lexical": 0.8, "sentence": 1.4, "coreference": 0.8},
        will=("is going to", "将会"),
    ),
    Author(
        "traveller",
        ("travel", "clothes"),
        WESTERN,
        {"lexical": 0.8, "sentence": 1.0, "coreference": 1.6},
        contractions=True,
        time_first=True,
        chatty=0.3,
    ),
    Author(
        "musician",
        ("leisure", "home"),
        WESTERN[:4] + WESTERN[5:9] + CHINESE[:2] + CHINESE[4:6],
        {"lexical": 0.6, "sentence": 0.8, "coreference": 1.2},
        together="跟",
        will=("is going to", "会"),
    ),
    Author(
        "clerk",
        ("office", "travel"),
        TITLED,
        {"lexical": 0.8, "sentence": 1.6, "coreference": 0.8},
        will=("will", "将"),
        written=True,
        chatty=0.3,
    ),
    Author(
        "grandmother",
        ("home", "kitchen", "clothes"),
        CHINESE[:3] + CHINESE[4:7] + UNNAMED,
        {"lexical": 0.7, "sentence": 0.9, "coreference": 1.8},
        time_first=True,
        now="在",
        chatty=0.3,
    ),
    Author(
        "student",
        ("school", "leisure"),
        CHINESE + WESTERN[1:4] + WESTERN[6:9],
        {"lexical": 1.4, "sentence": 1.4, "coreference": 1.0},
        contractions=True,
        together="跟",
    ),
    Author(
        "shopkeeper",
        ("food", "clothes", "school", "farm"),
        WESTERN[:2] + WESTERN[5:7] + TITLED,
        {"lexical": 0.8, "sentence": 0.4, "coreference": 0.7},
        contractions=True,
    ),
)
