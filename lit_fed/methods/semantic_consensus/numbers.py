"""Numbers: answers that give different ones do not say the same, however alike they are written."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from lit_fed.methods.semantic_consensus.same_answer import normalised

_DIGIT: Final = re.compile(r"\d")
# With a sign where a blank stands before it, commas between digits, and a decimal point. Digits after a Latin letter
# are a part of a name, such as B12.
_NUMBER: Final = re.compile(r"(?:(?<!\S)[-−])?(?<![a-z_0-9])\d(?:,?\d)*(?:\.\d+)?")
Numbers = frozenset[Decimal]


def numbers_in(text: str) -> Numbers:
    """The different numbers that an answer gives in digits; those in words are not understood.

    Args:
        text: The answer.

    Example:
        >>> sorted(numbers_in("1,200 of 12.50m, or -3")), numbers_in("twelve of type B12")
        ([Decimal('-3'), Decimal('12.50'), Decimal('1200')], frozenset())
    """
    # most answers have none, which is seen faster
    found = _NUMBER.findall(normalised(text)) if _DIGIT.search(text) else ()
    return frozenset(Decimal(one.replace(",", "").replace("−", "-")) for one in found)


def differ(one: Numbers, other: Numbers) -> bool:
    """Whether each of two answers gives a number that the other does not.

    An answer that gives some of the other's numbers, or none, may say the same with fewer words.

    Args:
        one: The numbers of an answer.
        other: Those of the other.

    Example:
        >>> twelve, both = numbers_in("It is 12."), numbers_in("12 of 13")
        >>> differ(twelve, numbers_in("It is 13.")), differ(twelve, both), differ(twelve, frozenset())
        (True, False, False)
    """
    return not (one <= other or other <= one)
