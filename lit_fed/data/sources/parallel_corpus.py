"""The distinct sentence pairs of a parallel corpus."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lit_fed.data.columns import require_column, written_values
from lit_fed.data.row_error import RowError
from lit_fed.data.sources.chinese_script import Script, chinese_script

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class Pairs:
    """Sentence pairs, each list in the corpus's order.

    Attributes:
        texts: First sides.
        translations: Second sides.
        scripts: Scripts of the second sides.
        authors: Authors of the second sides; empty where they are not known.
    """

    texts: list[str] = field(default_factory=list)
    translations: list[str] = field(default_factory=list)
    scripts: list[Script] = field(default_factory=list)
    authors: list[str] = field(default_factory=list)


def distinct_pairs(
    rows: Dataset,
    text: str,
    translation: str,
    author: str | None = None,
    author_pattern: re.Pattern[str] | None = None,
) -> Pairs:
    """The pairs of which neither side was there before in the corpus.

    So no second side that is left has another first side in the corpus, which it would translate too.

    Args:
        rows: The corpus.
        text: The column of the first side.
        translation: The column of the second side.
        author: The column that tells who wrote the second side, if there is one.
        author_pattern: Its first group is the author in that column. None: the whole value is.

    Raises:
        ValueError: If a column is missing, or a row has no text or no author.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"en": ["Hi.", "Hi.", "Hello.", "Run!"], "zh": ["嗨。", "你好。", "你好。", "跑！"]})
    >>> distinct_pairs(rows, "en", "zh").texts
    ['Hi.', 'Run!']
    """
    rows = rows.with_format(None)
    texts = _texts(rows, text, "text")
    translations = _texts(rows, translation, "translation")
    authors = [""] * len(rows)
    if author is not None:
        told = _texts(rows, author, "author")
        authors = [_author(value, author_pattern, row) for row, value in enumerate(told)]
    pairs = Pairs()
    seen: tuple[set[str], set[str]] = (set(), set())
    for one, two, who in zip(texts, translations, authors, strict=True):
        if one not in seen[0] and two not in seen[1]:
            pairs.texts.append(one)
            pairs.translations.append(two)
            pairs.scripts.append(chinese_script(two))
            pairs.authors.append(who)
        seen[0].add(one)
        seen[1].add(two)
    return pairs


def author_regex(pattern: str) -> re.Pattern[str]:
    """A regular expression whose first group is an author.

    Raises:
        ValueError: If it is none, or has no group.
    """
    try:
        regex = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"`author_pattern` is expected to be a regular expression, but {pattern!r}: {error}"
        ) from None
    if not regex.groups:
        raise ValueError(
            f"`author_pattern` is expected to have a group for the author, but got {pattern!r}"
        )
    return regex


def _author(text: str, pattern: re.Pattern[str] | None, row: int) -> str:
    if pattern is None:
        return text
    match = pattern.search(text)
    if match is None or not match[1]:
        raise RowError(
            f"`author_pattern` {pattern.pattern!r} is expected to find an author in every row, but "
            f"finds none in {text!r:.80} of row {row}",
            row,
        )
    return match[1]


def _texts(rows: Dataset, column: str, setting: str) -> list[str]:
    require_column(rows, column, setting, "`source`")
    texts = []
    for row, value in enumerate(written_values(rows, column, setting)):
        if value is None or not value.strip():
            raise RowError(
                f"`{setting}` is expected to name a column of texts, but {column!r} has "
                f"{value!r:.60} in row {row}",
                row,
            )
        texts.append(value.strip())
    return texts
