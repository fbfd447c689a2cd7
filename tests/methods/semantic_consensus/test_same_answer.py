import pytest

from lit_fed.methods.semantic_consensus.same_answer import _normalised, normalised


def test_long_answers_are_not_remembered() -> None:
    before = _normalised.cache_info().currsize
    assert normalised("No " * 5000 + "!") == normalised("no  " * 5000)
    assert _normalised.cache_info().currsize == before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", " paris. "),
        ("New York", "new\n  york!"),
        ("“Yes”", "yes"),
        ("**B**", "(b)"),
        ("ﬁne", "fine"),
        ("１２", "12"),
        ("STRASSE", "straße"),
        ("是。", "是"),
        ("「はい」", "はい"),
        ("हाँ।", "हाँ"),
        ("نعم؟", "نعم"),
        ("¿Sí?", "sí"),
        ("《是》、", "是"),
        ("Paris –", "Paris"),
        ("A-.", "a-"),
    ],
)
def test_the_same(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", "It is Paris"),
        ("3.5", "35"),
        ("+", "++"),
        ("no", "not"),
        ("-5%", "5 $"),
        ("?", "!"),
        ("-5", "5"),
        (".5", "5"),
        ("50%", "50"),
        ("#3", "3"),
        ("−5", "5"),
        ("A-", "A"),
        ("Cl-", "Cl"),
        ("A+", "A"),
    ],
)
def test_not_the_same(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)
