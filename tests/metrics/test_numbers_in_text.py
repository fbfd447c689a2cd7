from decimal import Decimal

import pytest

from lit_fed.metrics import numbers_in

SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("no number", []),
        ("1,234,567.80 and 1\u202f000", ["1234567.8", "1000"]),
        ("1234,567", ["1234", "567"]),
        ("12,3456", ["12", "3456"]),
        ("1, 2,3", ["1", "2", "3"]),
        ("007 on 2024-01-05 at 09:30", ["7", "2024", "1", "5", "9", "30"]),
        ("-5 % of .25, No.5 and 3.", ["5", "0.25", "3"]),
        ("１２ 个, 3个", ["12", "3"]),
        ("version 1.2.3", ["1.2", "3"]),
        ("forty-two or Forty two", ["42"]),
        ("two hundred and five thousand and six", ["205006"]),
        ("three million, four hundred thousand", ["3000000", "400000"]),
        ("three million four hundred thousand", ["3400000"]),
        ("a hundred", ["100"]),
        ("nineteen ninety", ["19", "90"]),
        ("two, three and four", ["2", "3", "4"]),
        ("six seven", ["6", "7"]),
        ("one of the ones", []),
        ("twenty-one", ["21"]),
        ("one hundred", ["100"]),
        ("3 million and 2.5 thousand, 7 hundred", ["3000000", "2500", "700"]),
        ("3 millionaires", ["3"]),
        ("often, tense, sixth", []),
        ("nineteen hundred", ["1900"]),
    ],
)
def test_values(text: str, values: list[str]) -> None:
    assert numbers_in(text) == set(map(Decimal, values))


def test_figures_alone() -> None:
    assert numbers_in("two of 3 million", number_words=False) == {Decimal(3)}


@pytest.mark.parametrize("value", [*range(2, 130), 999, 1000, 1100, 12_345, 700_007, 2_000_001])
def test_words_that_are_written_from_a_value_are_read_as_it(value: int) -> None:
    assert numbers_in(spelt(value)) == {Decimal(value)}
    assert numbers_in(f"{value:,}") == {Decimal(value)} == numbers_in(f"{value}.00")


def spelt(value: int) -> str:
    """A number in English words."""
    if value < 20:
        return SMALL[value]
    if value < 100:
        return TENS[value // 10 - 2] + (f"-{SMALL[value % 10]}" if value % 10 else "")
    for scale, name in ((10**6, "million"), (10**3, "thousand"), (100, "hundred")):
        if value >= scale:
            rest = f" and {spelt(value % scale)}" if value % scale else ""
            return f"{spelt(value // scale)} {name}{rest}"
    raise AssertionError(value)


def test_numbers_of_a_list_are_none() -> None:
    assert numbers_in("1. Apples\n 2) 7 pears\n3.5 kg\n12.\n1984. A novel") == set(
        map(Decimal, ("7", "3.5", "12", "1984"))
    )
    assert numbers_in("1. Apples", number_words=False) == frozenset()
