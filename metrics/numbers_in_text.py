"""Numbers of a text, in figures and in English words, by their values."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_FIGURES: Final = (
    r"(?<![\w.])\.\d+"
    r"|\d{1,3}(?:[,\u00a0\u2009\u202f]\d{3})+(?!\d)(?:\.\d+)?"
    r"|\d+(?:\.\d+)?"
)
_BELOW_TEN: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEENS: Final = (
    *("ten", "eleven", "twelve", "thirteen", "fourteen"),
    *("fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_ONES: Final = {word: value for value, word in enumerate(_BELOW_TEN + _TEENS)}
_TENS: Final = {
    word: 10 * value
    for value, word in enumerate(
        ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), start=2
    )
}
_SCALES: Final = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_FIGURES_ALONE: Final = re.compile(_FIGURES)
_FIGURES_SCALED: Final = re.compile(
    rf"({_FIGURES})(?:[ -](hundred|{'|'.join(_SCALES)})\b)?", re.IGNORECASE
)
# Of a list: its numbers count its items, and tell nothing.
_MARKER: Final = re.compile(r"^[ \t]*\d{1,2}[.)][ \t]+(?=\S)", re.MULTILINE)
# What stands between two words of one number: blanks and hyphens. Anything else is an item of its own.
_ITEM: Final = re.compile(r"[^\W\d_]+|[^\s\w-]|[\d_]+")


def numbers_in(text: str, number_words: bool = True) -> frozenset[Decimal]:
    """The values of a text's numbers, each once.

    - Figures: ``1,234.50`` is 1234.5; a comma or a thin or fixed blank groups thousands, a point is decimal, as in
      English and Chinese. Zeros in front do not count (``2024-01-05`` has 2024, 1 and 5), nor do signs, units,
      and percent. Figures of other scripts, such as full-width ones, are the same.
    - The numbers in front of a list's items (``1. Apples``) are none.
    - English words: ``forty-two`` is 42, ``two hundred and five`` 205, ``3 million`` 3000000. ``one`` alone is none,
      since it is mostly a pronoun. Ordinals and Chinese words for numbers are none.

    Args:
        text: The text.
        number_words: Whether words count.

    Example:
        >>> sorted(map(str, numbers_in("Forty-two of 1,234.50 (or 3 million)")))
        ['1234.50', '3000000', '42']
    """
    text = _MARKER.sub("", text)
    if not number_words:
        return frozenset(_value(figures) for figures in _FIGURES_ALONE.findall(text))
    found = set()
    for match in _FIGURES_SCALED.finditer(text):
        scale = (match[2] or "").lower()
        found.add(_value(match[1]) * (100 if scale == "hundred" else _SCALES.get(scale, 1)))
    spelt = _FIGURES_SCALED.sub("|", text)
    return frozenset(found | {Decimal(value) for value in _spelt(spelt)})


def _value(figures: str) -> Decimal:
    return Decimal(re.sub(r"[,\u00a0\u2009\u202f]", "", figures))


def _spelt(text: str) -> list[int]:
    """The values of the numbers in English words."""
    values: list[int] = []
    run: list[str] = []
    for item in [*(match[0].lower() for match in _ITEM.finditer(text)), "."]:
        if item in _ONES or item in _TENS or item == "hundred" or item in _SCALES:
            if not _continues(run, item):
                _close(run, values)
            run.append(item)
        elif item == "and" and run and (run[-1] == "hundred" or run[-1] in _SCALES):
            run.append(item)
        else:
            _close(run, values)
    return values


def _continues(run: list[str], item: str) -> bool:
    """Whether a number may go on with a word: not so 'twenty twenty', 'six seven' or 'thousand million'."""
    last = next((word for word in reversed(run) if word != "and"), None)
    if last is None:
        return True
    if item == "hundred":
        return last in _ONES and 0 < _ONES[last] < 20
    if item in _SCALES:
        greater = [_SCALES[word] for word in run if word in _SCALES]
        return last not in _SCALES and all(_SCALES[item] < scale for scale in greater)
    if last == "hundred" or last in _SCALES:
        return True
    return last in _TENS and 0 < _ONES.get(item, 0) < 10


def _close(run: list[str], values: list[int]) -> None:
    """Add the value of a number's words, and forget them."""
    spoken = [word for word in run if word != "and"]
    run.clear()
    if not spoken or spoken == ["one"]:
        return
    total = group = 0
    for word in spoken:
        if word in _SCALES:
            total += max(group, 1) * _SCALES[word]
            group = 0
        elif word == "hundred":
            group = max(group, 1) * 100
        else:
            group += _ONES.get(word, _TENS.get(word, 0))
    values.append(total + group)
