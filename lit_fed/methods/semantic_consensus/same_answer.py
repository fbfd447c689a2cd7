"""When two answers are the same for an exact vote."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

_BEFORE: Final = " \"'`“”‘’«»()[]*_;:!?。，；：！？"
_AFTER: Final = _BEFORE + ".,-–—"


_LONGEST: Final = 1000  # characters of an answer that is remembered


def normalised(text: str) -> str:
    r"""An answer as an exact vote compares it.

    Compatible characters are as one (NFKC), case does not count, runs of blanks are one space, and blanks and
    punctuation around the answer are left out, but for a dash or a point before it: -5 is not 5. An answer of
    punctuation alone is compared with it.

    Args:
        text: The answer.

    Example:
        >>> normalised("  “New\n YORK”. "), normalised("ｙｅｓ!"), normalised("?!")
        ('new york', 'yes', '?!')
    """
    return _normalised(text) if len(text) <= _LONGEST else _normalised.__wrapped__(text)


@lru_cache(maxsize=1 << 14)
def _normalised(text: str) -> str:
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.lstrip(_BEFORE).rstrip(_AFTER) or folded
