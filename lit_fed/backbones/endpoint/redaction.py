"""Redaction: the key is taken out of what others have written, however they spell it."""

from __future__ import annotations

import re
from typing import Final

SHORTEST: Final = 8
"""Characters of a key that is taken out: a shorter one, such as EMPTY, may be a word of any answer."""
_REPLACEMENT: Final = "***"
_LONGEST_SPELLING: Final = 9
"""Characters that stand for one of the key at most."""


class Redaction:
    r"""Takes the key out of texts.

    It finds the key as it is, percent-encoded (``%2F``), and as JSON may write it (``\/``, ``\u002f``), also where that
    was done several times over and with some of the characters alone.

    Args:
        key: The key, in ASCII. None, or one of fewer than eight characters: texts stay as they are.

    Example:
        >>> redaction = Redaction("sk/12345")
        >>> redaction("sk/12345, sk%2f12345 and sk\\/1234\\u0035")
        '***, *** and ***'
        >>> Redaction("EMPTY")("It is EMPTY.")
        'It is EMPTY.'
    """

    def __init__(self, key: str | None) -> None:
        self._key: re.Pattern[str] | None = None
        self._longest = 0
        if key is not None and len(key) >= SHORTEST:
            self._key = re.compile("".join(map(_spelled, key)))
            self._longest = len(key) * _LONGEST_SPELLING

    def __call__(self, text: str, whole: bool = True) -> str:
        """A text without the key.

        Args:
            text: What somebody else has written, who may have written the key.
            whole: Whether that is all. Else its end, which may be a part of the key, is left out.
        """
        if self._key is None:
            return text
        found = self._key.sub(_REPLACEMENT, text)
        return found if whole else found[: max(len(found) - self._longest, 0)]


def _spelled(character: str) -> str:
    """An expression of the ways in which a character is written; of limited length, since strangers write the text."""
    code = f"(?i:{ord(character):02x})"
    return rf"(?:\\{{0,4}}{re.escape(character)}|\\{{1,4}}u00{code}|%(?:25){{0,3}}{code})"
