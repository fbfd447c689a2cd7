"""Numbers: answers that give different ones do not say the same, however alike they are written."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from lit_fed.methods.semantic_consensus.same_answer import normalised

_DIGIT: Final = re.compile(r"\d")
_NUMBER: Final = re.compile(
    r"""(?P<sign>(?<![^\s=(:])[-−])?(?:  # of the ways of writing the first that fits:
    (?P<grouped>[1-9](?:\d?(?:,\d{2})+,\d{3}|\d{0,2}(?:,\d{3})+)(?!\d)(?:\.\d+)?)  # 12,34,567.8 and 1,234.5
    |(?P<comma>\d{1,3}(?:\.\d{3})+,\d+|(?<!\d,)\d+,\d+(?!,?\d))  # 1.234,5 and 2,5
    |(?P<point>\d+(?:\.\d+)?)  # 12.5
    )""",
    re.VERBOSE,
)
Numbers = frozenset[Decimal]


def numbers_in(text: str) -> Numbers:
    """The different numbers that an answer gives in digits, also in names such as B12; those in words are not.

    A comma before three digits groups them, as in 1,200; before fewer or more it is a decimal one, as in 2,5.

    Args:
        text: The answer.

    Example:
        >>> sorted(numbers_in("1,200 of 12.50m, or -3"))
        [Decimal('-3'), Decimal('12.50'), Decimal('1200')]
        >>> sorted(numbers_in("2,5 % of twelve, type B12")), sorted(numbers_in("1.200,50 €, 1,2,3"))
        ([Decimal('2.5'), Decimal('12')], [Decimal('1'), Decimal('2'), Decimal('3'), Decimal('1200.50')])
    """
    # most answers have none, which is seen faster
    found = _NUMBER.finditer(normalised(text)) if _DIGIT.search(text) else ()
    return frozenset(map(_value, found))


def _value(number: re.Match[str]) -> Decimal:
    digits = number["point"]
    if number["grouped"]:
        digits = number["grouped"].replace(",", "")
    elif number["comma"]:
        digits = number["comma"].replace(".", "").replace(",", ".")
    return -Decimal(digits) if number["sign"] else Decimal(digits)


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
