import pytest

from lit_fed.metrics import FillerRate, filler_words, words
from lit_fed.metrics.filler_rate import CHINESE_FILLERS, ENGLISH_FILLERS


def test_by_hand() -> None:
    # in order to | very | it's important to note that
    text = "In order to win, be VERY fast; it’s important to note that rain is wet."
    assert filler_words(text) == (3 + 1 + 5, 15)
    # 其实 | 非常
    assert filler_words("其实他非常快") == (4, 6)
    assert filler_words("justice") == (0, 1)


def test_the_longest_counts_and_none_within_another() -> None:
    fillers = ("a b", "a b c", "b c d")
    assert filler_words("a b c d", fillers) == (3, 4)
    assert filler_words("a b d b c d", fillers) == (5, 6)


def test_each_filler_is_filler_and_more_of_it_is_more() -> None:
    for filler in ENGLISH_FILLERS + CHINESE_FILLERS:
        assert filler_words(filler) == (len(words(filler)), len(words(filler)))
    for fillers in (ENGLISH_FILLERS, CHINESE_FILLERS):
        assert len(set(fillers)) == len(fillers)
    plain, filled = FillerRate(), FillerRate()
    plain.update(["The fox ran."])
    filled.update(["Actually, the fox really ran."])
    assert (plain.compute().item(), filled.compute().item()) == (0.0, 40.0)


def test_a_list_of_ones_own() -> None:
    metric = FillerRate(["fox"])
    metric.update(["", "The fox ran very far."])
    assert metric.compute().item() == 20.0
    nothing = FillerRate()
    nothing.update(["", "!"])
    assert nothing.compute().isnan()


def test_what_is_no_filler_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`fillers` is expected to have phrases of words, but"):
        FillerRate(["ok", "…"])
    with pytest.raises(TypeError, match="`fillers` is expected to be a sequence of texts"):
        FillerRate("just")
