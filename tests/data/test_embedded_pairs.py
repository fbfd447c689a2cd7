import re
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from typing import get_args

import numpy as np
import pytest
from datasets import Dataset
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from lit_fed.data.embedded.generator import Pair, Split
from lit_fed.data.embedded.world import world
from lit_fed.data.embedded_pairs import TASKS, EmbeddedPairs
from tests.slow import slow_but

SPLITS: tuple[Split, ...] = get_args(Split)


@pytest.fixture(scope="module")
def rows() -> dict[str, Dataset]:
    return {split: EmbeddedPairs(split, size=3000).load() for split in SPLITS}


@pytest.mark.parametrize("split", SPLITS)
def test_columns_and_exact_balance_within_each_task(rows: dict[str, Dataset], split: str) -> None:
    data = rows[split]
    assert data.column_names == ["english", "chinese", "label", "task", "author"]
    assert data.features["label"].dtype == "int64"
    counts = Counter(zip(data["task"], data["label"], strict=True))
    assert counts == {(task, label): 500 for task in TASKS for label in (0, 1)}


@pytest.mark.parametrize("column", ["english", "chinese"])
def test_no_sentence_occurs_twice(rows: dict[str, Dataset], column: str) -> None:
    sentences = [sentence for data in rows.values() for sentence in data[column]]
    assert len(sentences) == len(set(sentences)) == 3000 * len(SPLITS)


@pytest.mark.slow
def test_splits_stay_disjoint_under_other_sizes_and_seeds(rows: dict[str, Dataset]) -> None:
    train = EmbeddedPairs("train", size=20_000, seed=7).load()
    assert len(set(train["english"])) == len(set(train["chinese"])) == 20_000
    for split in set(SPLITS) - {"train"}:
        for column in ("english", "chinese"):
            assert not set(train[column]) & set(rows[split][column])


def test_rows_depend_on_the_seed_alone(rows: dict[str, Dataset]) -> None:
    again = EmbeddedPairs("test", size=3000).load()
    assert again.to_list() == rows["test"].to_list()
    assert EmbeddedPairs("test", size=3000, seed=1).load().to_list() != again.to_list()


@pytest.mark.parametrize(("column", "analyzer"), [("english", "word"), ("chinese", "char")])
@pytest.mark.parametrize("longest", slow_but(2, of=[1, 2]))
def test_one_side_alone_does_not_tell_the_label(
    rows: dict[str, Dataset], column: str, analyzer: str, longest: int
) -> None:
    train = EmbeddedPairs("train", size=6000).load()
    vectorizer = CountVectorizer(analyzer=analyzer, ngram_range=(1, longest))
    model = LogisticRegression(C=0.1, max_iter=200)
    model.fit(vectorizer.fit_transform(train[column]), train["label"])
    test = rows["test"]
    right = model.predict(vectorizer.transform(test[column])) == np.array(test["label"])
    # Of 1000 coin tosses, fewer than one series in 1000 is further than 0.055 from a half.
    for task in TASKS:
        assert abs(right[np.array(test["task"]) == task].mean() - 0.5) < 0.055
    assert abs(right.mean() - 0.5) < 0.035


def test_authors_write_differently(rows: dict[str, Dataset]) -> None:
    train = EmbeddedPairs("train", size=6000).load()
    assert set(train["author"]) == set(world().authors)
    vectorizer = CountVectorizer(analyzer="char", ngram_range=(1, 2))
    model = LogisticRegression(max_iter=100).fit(
        vectorizer.fit_transform(train["chinese"]), train["author"]
    )
    test = rows["test"]
    assert model.score(vectorizer.transform(test["chinese"]), test["author"]) > 0.5


def test_a_reference_is_right_if_it_names_whom_the_pronoun_means() -> None:
    females = {"she", "her", "hers", "herself"}
    males = {"he", "him", "his", "himself"}
    people = [person for several in world().people.values() for person in several]
    judged = Counter[int]()
    for row in EmbeddedPairs("test", size=600, tasks=["coreference"]).load():
        words = set(re.findall(r"[a-z]+", row["english"].lower()))
        # the Chinese side says the name again where English has a pronoun
        twice = [person for person in people if row["chinese"].count(person.zh) == 2]
        if len(twice) == 1 and bool(words & females) != bool(words & males):
            assert row["label"] == (twice[0].female == bool(words & females)), row
            judged[row["label"]] += 1
    assert min(judged[0], judged[1]) > 150


def test_labels_do_not_depend_on_the_author(rows: dict[str, Dataset]) -> None:
    labels: dict[str, list[int]] = {}
    for author, label in zip(rows["train"]["author"], rows["train"]["label"], strict=True):
        labels.setdefault(author, []).append(label)
    for own in labels.values():
        assert abs(np.mean(own) - 0.5) < 4 * 0.5 / np.sqrt(len(own))


def test_unseen_names_occur_nowhere_else(rows: dict[str, Dataset]) -> None:
    unseen = {person.en for person in world().people["unseen"]}
    for split, data in rows.items():
        named = [unseen & set(re.findall(r"[A-Z][a-z]+", text)) for text in data["english"]]
        assert all(named) if split == "unseen_names" else not any(named)


def test_longer_and_written_sentences_are_so(rows: dict[str, Dataset]) -> None:
    def length(split: str) -> float:
        return float(np.mean([len(sentence) for sentence in rows[split]["chinese"]]))

    assert length("longer") > 1.4 * length("test")
    written = "\n".join(rows["register"]["chinese"])
    assert not any(word in written for word in ("帮助", "没有", "妈妈"))
    assert "协助" in written
    assert not any("n't" in sentence for sentence in rows["register"]["english"])


@pytest.mark.parametrize("task", TASKS)
def test_a_task_can_be_drawn_alone(task: str) -> None:
    data = EmbeddedPairs("public", size=100, tasks=[task]).load()
    assert set(data["task"]) == {task}
    assert sum(data["label"]) == 50


def test_uneven_sizes_are_divided_into_even_parts() -> None:
    counts = Counter(EmbeddedPairs("train", size=100).load()["task"])
    assert counts == {"lexical": 34, "sentence": 34, "coreference": 32}


def _sentences(rows: dict[str, Dataset]) -> Iterator[tuple[str, str]]:
    for data in rows.values():
        yield from zip(data["english"], data["chinese"], strict=True)


def test_sentences_are_written_as_sentences(rows: dict[str, Dataset]) -> None:
    for english, chinese in _sentences(rows):
        assert english[0].isupper()
        assert english.endswith(".")
        assert english.isascii()
        assert "  " not in english
        assert not set("{}|") & set(english + chinese)
        assert chinese.endswith("。")
        assert not any(c.isascii() for c in chinese)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, r"split is expected to be one of \('train', .*, but got 'dev'"),
        ({"size": 7}, "size is expected to be even and at least 6.*but got 7"),
        ({"size": 4}, "size is expected to be even and at least 6.*but got 4"),
        ({"size": 0}, "size is expected to be even .*but got 0"),
        ({"tasks": ["idioms"]}, r"tasks is expected to name one or more of .*got \['idioms'\]"),
        ({"tasks": []}, r"tasks is expected to name one or more of .*got \[\]"),
        ({"tasks": ["lexical", "lexical"]}, "each once"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddedPairs(**arguments)  # type: ignore[arg-type]


def test_more_rows_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def two(*arguments: object, **settings: object) -> Iterator[Pair | None]:
        return cycle(
            [None, Pair("A.", "甲。", "nothing", "cook"), Pair("B.", "乙。", "role", "cook")]
        )

    monkeypatch.setattr("lit_fed.data.embedded_pairs.draws", two)
    with pytest.raises(
        ValueError, match=r"size is expected to be at most about 6 .*'validation'.*but got 600"
    ):
        EmbeddedPairs("validation").load()
