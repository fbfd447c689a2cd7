"""Words of a text in any script, which the metrics of texts count."""

from __future__ import annotations

import re
from functools import cache
from typing import Final
from unicodedata import category, normalize

_CJK: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_LETTER: Final = rf"[^\W_{_CJK}]"
_JOINERS: Final = "\u200c\u200d"
_LAST_MARK: Final = 0x1E94A
"""The last combining mark of all scripts; those after it only choose between shapes of one sign."""


def words(text: str) -> list[str]:
    """The words of a text in lower case; punctuation is left out.

    Letters and digits that stand together are a word, with the marks that combine with them, such as vowels of Indian
    scripts, and with apostrophes within it; so is a number with its points and commas, and each Chinese character or
    Japanese kana, since these scripts put no blanks between words. An accent is the same as part of its letter and
    after it.

    Args:
        text: The text.

    Example:
        >>> words("It’s 1,234.5 km to 北京!"), words("हिन्दी की किताब")
        (["it's", '1,234.5', 'km', 'to', '北', '京'], ['हिन्दी', 'की', 'किताब'])
    """
    return [word.replace("’", "'") for word in _word().findall(normalize("NFC", text.lower()))]


def ngrams(items: list[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n words, in order; none where there are fewer words.

    Args:
        items: The words.
        n: Length of a run, at least 1.

    Example:
        >>> ngrams(["a", "b", "c"], 2)
        [('a', 'b'), ('b', 'c')]
    """
    return list(zip(*(items[start:] for start in range(n)), strict=False))


def has_phrase(text: str, phrase: str) -> bool:
    """Whether a text has a phrase as whole words, whatever the case and the blanks between words.

    Chinese characters and kana may stand beside it, letters and digits may not, nor marks that combine with them.

    Args:
        text: The text.
        phrase: What is looked for; more than blanks.

    Example:
        >>> has_phrase("I saw  new york.", "New York"), has_phrase("Romeo", "Rome"), has_phrase("在北京市", "北京")
        (True, False, True)
    """
    whole, wanted = (" ".join(normalize("NFC", part.lower()).split()) for part in (text, phrase))
    at = whole.find(wanted)
    while at >= 0:
        end = at + len(wanted)
        begins = _apart(whole[at - 1 : at], wanted[0])
        if begins and _apart(wanted[-1], whole[end : end + 1]):
            return True
        at = whole.find(wanted, at + 1)
    return False


def _apart(left: str, right: str) -> bool:
    """Whether two signs that stand together, of which one may be missing, belong to two words."""
    return not (_part_of_a_word().fullmatch(left) and _part_of_a_word().fullmatch(right))


@cache
def _marks() -> str:
    """All marks that combine with a letter, and what joins letters, none of which is a letter to ``re``."""
    marks = (chr(code) for code in range(0x300, _LAST_MARK + 1))
    return _JOINERS + "".join(mark for mark in marks if category(mark) in ("Mn", "Mc"))


@cache
def _word() -> re.Pattern[str]:
    run = rf"(?:{_LETTER}[{_marks()}]*)+"
    return re.compile(rf"[{_CJK}]|\d+(?:[.,]\d+)+|{run}(?:['’]{run})*")


@cache
def _part_of_a_word() -> re.Pattern[str]:
    return re.compile(rf"{_LETTER}|[{_marks()}]")
