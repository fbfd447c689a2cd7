"""Answers that can be checked without knowing the task: a number, a choice, code."""

from __future__ import annotations

import re
from typing import Final

_NUMBER: Final = r"-?\d[\d,]*(?:\.\d+)?"
_FINAL: Final = re.compile(
    rf"(?:####|\\boxed\{{|\banswer(?: is|:)|答案(?:是|：|:))\s*\$?({_NUMBER})", re.IGNORECASE
)
_NUMBERS: Final = re.compile(_NUMBER)
_NOTHING_ELSE: Final = re.compile(rf"[^\w-]*({_NUMBER})[^\w]*(?:%|percent)?[^\w]*")
_CHOICE_ALONE: Final = re.compile(r"\W*([A-H])\W*")
# not the initials of a name, as in D. H. Lawrence or F. Scott-Heron; B. The sea begins with a choice
_CHOICE_MARKED: Final = re.compile(
    r"\W*(?:\(([A-H])\)|([A-H])[):]|([A-H])\.(?!\s+[A-Z](?:\.|[\w'’]*-[A-Z])))\s"
)
_WORD_CHOICE: Final = re.compile(r"\W*(yes|no|true|false|是|否)\W*", re.IGNORECASE)
_CODE: Final = "```"


def keeps_answer(reference: str, text: str) -> bool:
    r"""Whether a text has the answer of a reference, as far as that is one that can be checked.

    - A number: the reference is one and nothing else, or says that it is the answer (``#### 42``, ``\boxed{42}``,
      “the answer is 42”). The text has to have it.
    - A choice: the reference is a letter from A to H or begins with one (``(B)``, ``B.``, but no initials of a name,
      as in ``D. H. Lawrence``), or is yes, no, true or false. The text has to have it as a word of its own.
    - Code: the reference has a block of it in ``` marks. The text has to have one.

    Any other reference is kept by every text.

    Args:
        reference: The reference.
        text: The text.

    Example:
        >>> [keeps_answer("So it is 6 * 7.\n#### 42", text) for text in ("That makes 42.", "That makes 67.")]
        [True, False]
        >>> [keeps_answer("(B) the sea", text) for text in ("The answer is B.", "The sea.")]
        [True, False]
        >>> keeps_answer("A long day at the sea.", "Much sun.")
        True
    """
    if number := _answer_number(reference):
        return number in {_plain(found) for found in _NUMBERS.findall(text)}
    if choice := _answer_choice(reference):
        return re.search(rf"(?<!\w){choice}(?!\w)", text, _flags(choice)) is not None
    return _CODE not in reference or _CODE in text


def _answer_number(text: str) -> str | None:
    """The number that a text gives as its answer."""
    finals = _FINAL.findall(text)
    if finals:
        return _plain(finals[-1])
    alone = _NOTHING_ELSE.fullmatch(text.strip())
    return _plain(alone[1]) if alone else None


def _answer_choice(text: str) -> str | None:
    """The letter or word of a choice that a text is or begins with."""
    word = _WORD_CHOICE.fullmatch(text)
    if word:
        return word[1].lower()
    alone = _CHOICE_ALONE.fullmatch(text)
    if alone:
        return alone[1]
    marked = _CHOICE_MARKED.match(text)
    return (marked[1] or marked[2] or marked[3]) if marked else None


def _flags(choice: str) -> int:
    return 0 if len(choice) == 1 and choice.isascii() else re.IGNORECASE


def _plain(number: str) -> str:
    """A number without the commas between its thousands and the zeros after its point."""
    whole, point, part = number.rstrip(",").replace(",", "").partition(".")
    part = part.rstrip("0")
    return f"{whole}.{part}" if point and part else whole
