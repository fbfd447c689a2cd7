from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from datasets import Dataset

from lit_fed.data import EmbeddedPairs, TranslationPairs, TSVSource
from lit_fed.data.sources.translation_pairs import PairSplit

AUTHORS = ("ann", "bo", "cy d", "di", "ed")
SPLITS: Sequence[PairSplit] = get_args(PairSplit)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> TSVSource:
    """400 pairs in the format of Tatoeba; a third is traditional, by others; one in 30 mixes scripts."""
    lines = []
    for i in range(400):
        english = " ".join([f"w{i}"] + ["word"] * (1 + i % 9))
        script = i // 9 % 3
        mark = "这這" if i % 30 == 7 else ("這", "这", "")[script]
        author = AUTHORS[i // 27 % 5] if script else "tra"
        lines.append(f"{english}\t{mark}{chr(0x4E00 + i)}好\tCC-BY #{i} (X) & #{i} ({author})")
    path = tmp_path_factory.mktemp("corpus") / "cmn.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return TSVSource(path, header=False, columns=["english", "chinese", "by"])


def pairs(corpus: TSVSource, split: PairSplit = "train", **settings: Any) -> TranslationPairs:
    known: dict[str, Any] = {
        "author": "by",
        "author_pattern": r"& #\d+ \((.+)\)$",
        "unseen_authors": 0.25,
    }
    return TranslationPairs(corpus, split, **known | settings)


def originals(corpus: TSVSource) -> dict[str, str]:
    rows = corpus.load()
    return dict(zip(rows["english"], rows["chinese"], strict=True))


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_true_and_balanced_in_each_task(corpus: TSVSource, split: PairSplit) -> None:
    rows = pairs(corpus, split, shares=dict.fromkeys(SPLITS[:4], 0.25)).load()
    translation = originals(corpus)
    assert [translation[e] == c for e, c in zip(rows["english"], rows["chinese"], strict=True)] == [
        label == 1 for label in rows["label"]
    ]
    counts = Counter(zip(rows["task"], rows["label"], strict=True))
    assert len(counts) == 6
    assert len(set(counts.values())) == 1
    assert len(set(rows["english"])) == len(set(rows["chinese"])) == len(rows)


def test_splits_share_no_sentence_script_or_author(corpus: TSVSource) -> None:
    tables: dict[PairSplit, Dataset] = {
        split: pairs(corpus, split, bounds=[3, 6]).load()
        for split in SPLITS
        if split != "validation"
    }
    tables["validation"] = pairs(corpus, "validation", tasks=["all"], bounds=[]).load()
    for column in ("english", "chinese"):
        everything = [value for table in tables.values() for value in table[column]]
        assert len(everything) == len(set(everything))
    assert set(tables.pop("traditional")["script"]) == {"traditional"}
    unseen = set(tables.pop("unseen_authors")["author"])
    assert unseen
    for table in tables.values():
        assert set(table["script"]) <= {"simplified", "either"}
        assert not unseen & set(table["author"])


def test_author_and_script_are_those_of_the_second_side(corpus: TSVSource) -> None:
    rows = corpus.load()
    author = {c: by.split("(")[-1][:-1] for c, by in zip(rows["chinese"], rows["by"], strict=True)}
    for row in pairs(corpus).load():
        assert row["author"] == author[row["chinese"]]
        assert row["script"] == ("simplified" if "这" in row["chinese"] else row["script"])
    assert "author" not in TranslationPairs(corpus).load().column_names


def test_tasks_are_by_words_within_the_bounds(corpus: TSVSource) -> None:
    rows = pairs(corpus, tasks=["brief", "full"], bounds=[4]).load()
    assert {
        (len(e.split()) <= 4, t) for e, t in zip(rows["english"], rows["task"], strict=True)
    } == {
        (True, "brief"),
        (False, "full"),
    }
    # 2 to 10 words, all as frequent: terciles end with 4 and 7
    rows = pairs(corpus).load()
    words = np.asarray([len(text.split()) for text in rows["english"]])
    assert [
        (
            words[np.asarray(rows["task"]) == task].min(),
            words[np.asarray(rows["task"]) == task].max(),
        )
        for task in ("short", "medium", "long")
    ] == [(2, 4), (5, 7), (8, 10)]


def test_second_sides_change_places_with_those_of_similar_length(corpus: TSVSource) -> None:
    home = {c: e for e, c in originals(corpus).items()}

    def difference(match_length: bool) -> float:
        rows = pairs(corpus, match_length=match_length, tasks=["all"], bounds=[]).load()
        both = zip(rows["english"], rows["chinese"], rows["label"], strict=True)
        return float(np.mean([abs(len(e) - len(home[c])) for e, c, label in both if not label]))

    assert difference(True) < 2
    assert difference(False) > 8


def test_the_seed_decides_and_the_size_takes_some_of_the_same(corpus: TSVSource) -> None:
    first, again = pairs(corpus).load()[:], pairs(corpus).load()[:]
    assert first == again
    assert pairs(corpus, seed=1).load()[:] != first
    few = pairs(corpus, size=14).load()
    assert len(few) == 14
    assert set(few["english"]) <= set(first["english"])
    assert Counter(few["task"]) == {"short": 6, "medium": 4, "long": 4}
    assert sum(few["label"]) == 7


def test_named_authors_are_unseen(corpus: TSVSource) -> None:
    named = pairs(corpus, "unseen_authors", unseen_authors=["cy d", "bo"], tasks=["all"], bounds=[])
    assert set(named.load()["author"]) == {"cy d", "bo"}


def test_scripts_may_stay_together() -> None:
    rows = TranslationPairs(EmbeddedPairs("test"), separate_scripts=False).load()
    assert len(rows) > 300


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "dev"}, r"`split` is expected to be one of .*, but got 'dev'"),
        ({"split": "traditional", "separate_scripts": False}, r"`split` traditional is expected"),
        ({"split": "unseen_authors", "author": None}, r"`split` unseen_authors needs `author`"),
        ({"tasks": ["a", "a"]}, r"`tasks` is expected to give names that differ"),
        ({"bounds": [6, 3]}, r"`bounds` is expected to be 2 growing numbers .* but got \[6, 3\]"),
        ({"bounds": [3]}, r"`bounds` is expected to be 2 growing numbers"),
        ({"size": 13}, r"`size` is expected to be even and at least 12, 4 for each .* got 13"),
        ({"size": 10}, r"`size` is expected to be even and at least 12"),
        ({"shares": {"train": 1.0}}, r"`shares` is expected to give parts of 1 for \['train', "),
        ({"shares": dict.fromkeys(SPLITS[:4], 0.3)}, r"`shares` is expected to give parts of 1"),
        ({"unseen_authors": 1.5}, r"`unseen_authors` is expected to be at least 0 and below 1"),
        ({"author_pattern": "x"}, r"`author_pattern` is expected to have a group"),
        ({"seed": -1}, r"`seed` is expected to be at least 0, but got -1"),
    ],
)
def test_bad_settings(corpus: TSVSource, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pairs(corpus, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"size": 400},
            r"split 'train' is expected to have 4 pairs or more for each of `tasks`, and enough for "
            r"`size` 400, but the corpus has so few distinct ones: {'short': \d+, 'medium': \d+, ",
        ),
        ({"bounds": [20, 30]}, r"so few distinct ones: {'short': \d+, 'medium': 0, 'long': 0}"),
        ({"text": "de"}, r"`text` is expected to name a column of `source`, but got 'de'"),
        ({"unseen_authors": ["zoe"]}, r"`unseen_authors` is expected .* but got \['zoe'\]"),
    ],
)
def test_bad_corpora(corpus: TSVSource, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pairs(corpus, **settings).load()


def test_an_empty_part(corpus: TSVSource, tmp_path: Path) -> None:
    (tmp_path / "few.tsv").write_text("english\tchinese\nHi\t嗨\nGo\t走\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"split 'test' .*: {'short': 0, 'medium': 0, 'long': 0}"):
        TranslationPairs(TSVSource(tmp_path / "few.tsv"), "test").load()
