from collections import Counter

import pytest

from lit_fed.metrics import DistinctN, DuplicateNgramRate, distinct_ngrams, duplicate_ngrams
from tests.metrics.every_metric import PREDS

TEXTS = ["the cat saw the cat", "the dog saw the cat saw the dog", "once"]


def counted(text: str, n: int) -> Counter[str]:
    split = text.split()
    return Counter(" ".join(split[i : i + n]) for i in range(len(split) - n + 1))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_equals_a_count(n: int) -> None:
    whole = sum((counted(text, n) for text in TEXTS), Counter[str]())
    assert distinct_ngrams(TEXTS, n) == (len(whole), whole.total())
    metric = DistinctN(n)
    metric.update(TEXTS[:1])
    metric.update(TEXTS[1:])
    assert metric.compute().item() == pytest.approx(100 * len(whole) / whole.total())
    shares = []
    for text in TEXTS:
        own = counted(text, n)
        shares.append(1 - len(own) / own.total() if own else 0.0)
        assert duplicate_ngrams(text, n) == pytest.approx(shares[-1])
    duplicates = DuplicateNgramRate(n)
    duplicates.update(TEXTS)
    assert duplicates.compute().item() == pytest.approx(100 * sum(shares) / 3)


def test_a_text_twice_is_as_many_again_for_one_and_changes_nothing_for_the_other() -> None:
    once, twice, rate, rates = DistinctN(), DistinctN(), DuplicateNgramRate(), DuplicateNgramRate()
    for preds in PREDS:
        once.update(preds)
        rate.update(preds)
        for _ in range(2):
            twice.update(preds)
            rates.update(preds)
    assert twice.compute().item() == pytest.approx(once.compute().item() / 2)
    assert rates.compute().item() == pytest.approx(rate.compute().item())


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_nothing_to_tell() -> None:
    assert DistinctN().compute().isnan()
    assert DuplicateNgramRate().compute().isnan()
    short, rate = DistinctN(2), DuplicateNgramRate(2)
    for texts in ([], [""], ["word"]):
        short.update(texts)
        rate.update(texts)
    assert short.compute().isnan()
    assert rate.compute().item() == 0.0


def test_texts_come_back_as_they_were() -> None:
    metric = DistinctN()
    texts = ["", "naïve 北京 🙂", "\ud800 lone", ""]
    metric.update(texts)
    metric.update([])
    assert [text for _, text in metric.collected()] == texts


def test_n_is_refused() -> None:
    for kind in (DistinctN, DuplicateNgramRate):
        with pytest.raises(ValueError, match="`n` is expected to be at least 1, but got 0"):
            kind(0)
