"""Bounding of answers: what a client sends becomes a short text that is harmless to compare, to store and to show."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from lit_fed.limits import require_at_least
from lit_fed.methods.semantic_consensus.joiners import without_idle_ones

# A text is cut to so many times the characters that may be left before it is read: the rest costs nothing.
_READ: Final = 4
# Unicode's stream-safe format (UAX #15) has at most so many marks on a character.
_MARKS: Final = 30
# Terminal escapes, ECMA-48: control sequences, strings up to their end (at most a line), and two-character ones.
_ESCAPES: Final = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"
    "|(?:\x1b[PX\\]^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)?"
    "|\x1b[ -/]*[0-~]?"
)
_LINES: Final = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# What Unicode lets no eye see (Default_Ignorable_Code_Point): what is as wide as nothing, fills, changes the direction
# of text, is a tag or selects a variant. Joiners and emoji's selectors have a meaning in some places.
UNSEEN: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Characters that hide in a text, as ranges of a regular expression."""
# Controls but for tabs and line feeds as well.
_UNSEEN: Final = re.compile(f"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f{UNSEEN}]")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
# Characters below are in every normal form.
_COMPOSED: Final = re.compile("[^\x00-\u02ff]")


def bounded(text: str, max_characters: int) -> str:
    r"""An answer as it takes part in the consensus, and is stored, shown and trained on.

    - At most ``max_characters``: it is cut before a character whose accents would be lost.
    - Terminal escapes (colours, titles, links) and control characters are left out, as is what hides or reorders text:
      zero-width characters, fillers, tags, selectors of variants and marks of direction. A joiner stays between emoji
      and in scripts that join, a selector behind an emoji, and one of them at most in a place. So two answers that
      differ in what is left out alone are the same.
    - Line ends are line feeds; tabs stay; blanks around the answer are left out.
    - Half a surrogate pair, which is no UTF-8, becomes the replacement character, U+FFFD.
    - It is in Unicode's normal form C, with at most 30 marks on a character.
    - Markup stays as it was written: escape it where it is shown as HTML or Markdown.

    Bounded again a text stays as it is. No more than four times ``max_characters`` are read, so that a megabyte costs
    what a page costs; an answer with more than that of what is left out loses its end.

    Args:
        text: The answer.
        max_characters: At least 1.

    Raises:
        ValueError: If ``max_characters`` is below 1.

    Example:
        >>> bounded("\x1b[31mParis\x1b[0m is\r\nit.\x00 ", 100)
        'Paris is\nit.'
        >>> bounded("a" * 10**7, 5)
        'aaaaa'
    """
    require_at_least("max_characters", max_characters, 1)
    read = text[: _READ * max_characters]
    if not read.isprintable():
        read = _SURROGATES.sub("\ufffd", _LINES.sub("\n", _ESCAPES.sub("", read)))
    # some of them are printable, as letters and marks
    read = without_idle_ones(_UNSEEN.sub("", read))
    if _COMPOSED.search(read):
        # Twice, since the normal form takes some marks apart.
        read = with_few_marks(unicodedata.normalize("NFC", with_few_marks(read)))
    # a joiner before the cut has lost what it joins
    return without_idle_ones(_cut(read.strip(), max_characters)).rstrip()


def with_few_marks(text: str) -> str:
    """A text without the marks that are too many on a character: to order n of them takes n² steps.

    Args:
        text: The text.

    Example:
        >>> len(with_few_marks("a" + 1000 * chr(0x301)))
        31
    """
    kept, marks = [], 0
    for character in text:
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks <= _MARKS:
            kept.append(character)
    return "".join(kept)


def _cut(text: str, most: int) -> str:
    """The beginning of a text, without a last character that has lost marks."""
    if len(text) <= most:
        return text
    for end in range(most, max(most - _MARKS, 0), -1):
        if not unicodedata.combining(text[end]):
            return text[:end]
    return text[:most]
