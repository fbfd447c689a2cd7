"""What a lexicon is made of: words in both languages, and people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """A content word or phrase in both languages with the forms that the grammar's templates ask for.

    One class serves every part of speech, so that any slot of a template can hold any of them; a form
    that a part of speech does not have is empty.

    Attributes:
        en: English base form, of a verb the infinitive.
        zh: Chinese.
        plural: English plural of a noun.
        measure: Chinese measure word of a noun.
        past: English past tense of a verb.
        ing: English present participle of a verb.
        third: English third person singular of a verb.
        perfect: Chinese with the perfective marker 了 where it belongs.
        more: English comparative of an adjective.
        domain: Subject area, from which authors take their vocabulary.
    """

    en: str
    zh: str
    plural: str = ""
    measure: str = ""
    past: str = ""
    ing: str = ""
    third: str = ""
    perfect: str = ""
    more: str = ""
    domain: str = ""

    @property
    def one(self) -> str:
        """The English singular with its indefinite article.

        Example:
            >>> Word("apple", "苹果").one, Word("used car", "二手车").one
            ('an apple', 'a used car')
        """
        vowel = self.en[0] in "aeiou" and not self.en.startswith(("use", "uni"))
        return f"{'an' if vowel else 'a'} {self.en}"


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
        """The pronoun as a possessive."""
        return "her" if self.female else "his"

    @property
    def him(self) -> str:
        """The pronoun as an object."""
        return "her" if self.female else "him"

    @property
    def herself(self) -> str:
        """The reflexive pronoun."""
        return "herself" if self.female else "himself"


def entries(table: str, *fields: str, domain: str = "") -> tuple[Word, ...]:
    """Words from a table with one word a line and its fields divided by ``|``.

    Example:
        >>> entries("apple | 苹果 | apples | 个", "en", "zh", "plural", "measure")[0].measure
        '个'
    """
    return tuple(
        Word(**dict(zip(fields, cells, strict=True)), domain=domain) for cells in _rows(table)
    )


def people(table: str, female: bool) -> tuple[Person, ...]:
    """People of one gender from a table with ``English | Chinese`` on each line."""
    return tuple(Person(en, zh, female) for en, zh in _rows(table))


def _rows(table: str) -> Iterator[list[str]]:
    for line in table.strip().splitlines():
        yield [cell.strip() for cell in line.split("|")]
