"""When two answers are the same for an exact vote."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

_MEANT: Final = frozenset("%‰‱٪&#@/\\")
"""Punctuation by Unicode's categories that says something of an answer."""
_MEANT_BEFORE: Final = frozenset(".,-‐‑‒–—−")
_MEANT_BEHIND: Final = frozenset("-−")
_LONGEST: Final = 1000  # characters of an answer that is remembered


def normalised(text: str) -> str:
    r"""An answer as an exact vote compares it.

    Compatible characters are as one (NFKC), case does not count, runs of blanks are one space, and blanks and
    punctuation around the answer are left out, but for a dash or a point before it and a minus right behind a letter or
    digit: -5 is not 5, and A- is not A. An answer of punctuation alone is compared with it.

    Args:
        text: The answer.

    Example:
        >>> normalised("  “New\n YORK”. "), normalised("ｙｅｓ!"), normalised("A-."), normalised("?!")
        ('new york', 'yes', 'a-', '?!')
    """
    return _normalised(text) if len(text) <= _LONGEST else _normalised.__wrapped__(text)


@lru_cache(maxsize=1 << 14)
def _normalised(text: str) -> str:
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    first, last = 0, len(folded)
    while first < last and _is_around(folded[first]) and folded[first] not in _MEANT_BEFORE:
        first += 1
    while first < last and _is_around(folded[last - 1]):
        if folded[last - 1] in _MEANT_BEHIND and folded[last - 2 : last - 1].isalnum():
            break
        last -= 1
    return folded[first:last] or folded


def _is_around(sign: str) -> bool:
    """Whether a sign may stand around an answer without being a part of it, in any script."""
    return sign in " `" or (unicodedata.category(sign)[0] == "P" and sign not in _MEANT)
