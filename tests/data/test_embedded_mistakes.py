import re
from collections import Counter
from typing import get_args

import numpy as np
import pytest
from datasets import Dataset
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from lit_fed.data.embedded.generator import Split
from lit_fed.data.embedded.world import world
from lit_fed.data.embedded_mistakes import MISTAKES, EmbeddedMistakes
from tests.slow import slow_but

SPLITS: tuple[Split, ...] = get_args(Split)


@pytest.fixture(scope="module")
def rows() -> dict[str, Dataset]:
    return {split: EmbeddedMistakes(split, size=1200).load() for split in SPLITS}


@pytest.mark.parametrize("split", [split for split in SPLITS if split != "train"])
def test_all_labels_and_authors_are_equally_frequent(rows: dict[str, Dataset], split: str) -> None:
    data = rows[split]
    assert data.features["label"].names == list(MISTAKES)
    counts = Counter(zip(data["author"], data["label"], strict=True))
    assert set(counts.values()) == {20}
    assert len(counts) == 60


def test_the_clients_labels_are_skewed_and_their_sizes_are_not() -> None:
    train = EmbeddedMistakes("train").load()
    assert len(train) == 1200
    sizes = Counter(train["author"])
    assert min(sizes.values()) > 75
    assert max(sizes.values()) < 165
    pairs = Counter(zip(train["author"], train["label"], strict=True))
    most = [max(pairs[author, label] for label in range(6)) / sizes[author] for author in sizes]
    assert np.mean(most) > 0.4
    even = EmbeddedMistakes("train", skew=None).load()
    assert max(Counter(zip(even["author"], even["label"], strict=True)).values()) <= 20


@pytest.mark.parametrize("column", ["english", "chinese"])
def test_no_sentence_occurs_twice(rows: dict[str, Dataset], column: str) -> None:
    sentences = [sentence for data in rows.values() for sentence in data[column]]
    assert len(sentences) == len(set(sentences)) == 1200 * len(SPLITS)


def test_rows_depend_on_the_seed_alone(rows: dict[str, Dataset]) -> None:
    again = EmbeddedMistakes("test", size=1200).load()
    assert again.to_list() == rows["test"].to_list()
    assert EmbeddedMistakes("test", size=1200, seed=1).load().to_list() != again.to_list()


@pytest.mark.parametrize(
    ("column", "analyzer"),
    slow_but(("english", "word"), of=[("english", "word"), ("chinese", "char")]),
)
def test_one_side_alone_does_not_tell_the_label(
    rows: dict[str, Dataset], column: str, analyzer: str
) -> None:
    train = EmbeddedMistakes("train", size=6000, skew=None).load()
    vectorizer = CountVectorizer(analyzer=analyzer, ngram_range=(1, 2))
    model = LogisticRegression(C=0.1, max_iter=200)
    model.fit(vectorizer.fit_transform(train[column]), train["label"])
    right = model.score(vectorizer.transform(rows["test"][column]), np.array(rows["test"]["label"]))
    # of 1200 throws of a die, fewer than one series in 1000 is further than 0.035 from a sixth
    assert abs(right - 1 / 6) < 0.035


def test_exactly_what_the_label_says_is_wrong(rows: dict[str, Dataset]) -> None:
    """By a dictionary of names alone: roles change places, and nothing else moves a name."""
    known = {p.en: p.zh for people in world().people.values() for p in people}
    for row in rows["test"]:
        names = [known[n] for n in re.findall(r"[A-Z][a-z]+", row["english"]) if n in known]
        assert len(names) == 2
        assert all(name in row["chinese"] for name in names)
        first, second = (row["chinese"].index(name) for name in names)
        swapped = second < first
        # one name may be the end of another, which an index cannot tell
        if names[0] not in names[1] and names[1] not in names[0]:
            assert swapped == (MISTAKES[row["label"]] == "role") or "从" in row["chinese"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, r"split is expected to be one of \('train', .*, but got 'dev'"),
        ({"size": 59}, "size.* at least 60.*59"),
        ({"skew": 0.0}, r"skew is expected to be positive or null, but got 0\.0"),
        ({"skew": float("nan")}, "skew is expected to be positive or null, but got nan"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddedMistakes(**arguments)  # type: ignore[arg-type]
