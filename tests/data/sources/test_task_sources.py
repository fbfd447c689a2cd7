from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset

from lit_fed.data import CSVSource, JSONLSource, LinesSource, Source, TaskSources, TSVSource
from lit_fed.data.row_error import RowError

LABELS = {"review": 2, "question": 6}


@pytest.fixture
def tasks(tmp_path: Path) -> dict[str, Source]:
    (tmp_path / "review.tsv").write_text("sentence\tlabel\na fine film\t1\na dull film\t0\n")
    (tmp_path / "question.csv").write_text('3,"Who , then ?"\n5,How far ?\n0,What is it ?\n')
    return {
        "review": TSVSource(tmp_path / "review.tsv", columns=["text", "label"]),
        "question": CSVSource(tmp_path / "question.csv", header=False, columns=["label", "text"]),
    }


def test_tables_come_in_order_with_labels_of_their_own(tasks: dict[str, Source]) -> None:
    assert TaskSources(tasks, num_labels=LABELS).load().to_dict() == {
        "text": ["a fine film", "a dull film", "Who , then ?", "How far ?", "What is it ?"],
        "label": [1, 0, 5, 7, 2],
        "task": ["review"] * 2 + ["question"] * 3,
    }
    reverse = dict(reversed(tasks.items()))
    assert TaskSources(reverse, num_labels=LABELS).load()["label"][:] == [3, 5, 0, 7, 6]
    assert TaskSources(tasks, disjoint_labels=False).load()["label"][:] == list("10350")


def test_a_split_that_lacks_labels_has_the_same_numbers(
    tasks: dict[str, Source], tmp_path: Path
) -> None:
    (tmp_path / "test.txt").write_text("0 dull\n")
    test = tasks | {"review": LinesSource(tmp_path / "test.txt", r"(?P<label>\d) (?P<text>.*)")}
    assert TaskSources(test, num_labels=LABELS).load()["label"][:] == [0, 5, 7, 2]


def test_columns_are_renamed_and_those_of_one_task_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("sentence,y,source\nfine,1,web\n")
    (tmp_path / "b.csv").write_text("y,text\n0,what ?\n")
    rows = TaskSources(
        {"a": CSVSource(tmp_path / "a.csv"), "b": CSVSource(tmp_path / "b.csv")},
        columns={"a": {"sentence": "text"}},
        label="y",
        num_labels={"a": 2, "b": 2},
    ).load()
    assert rows.to_dict() == {"text": ["fine", "what ?"], "y": [1, 2], "task": ["a", "b"]}


def test_some_rows_of_each_task_by_the_seed(tasks: dict[str, Source]) -> None:
    def drawn(seed: int, max_rows: int = 2) -> list[str]:
        source = TaskSources(tasks, num_labels=LABELS, max_rows=max_rows, seed=seed)
        return list(source.load()["text"])

    assert drawn(0) == drawn(0)
    assert len(drawn(0)) == 4
    assert len({tuple(drawn(seed)) for seed in range(20)}) == 3
    assert len(drawn(0, max_rows=9)) == 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": {}}, r"`tasks` is expected to name one source or more, but got none"),
        ({"num_labels": None}, r"`num_labels` is expected .* but lacks \['review', 'question'\]"),
        ({"num_labels": {"review": 2}}, r"`num_labels` is expected .* but lacks \['question'\]"),
        ({"num_labels": LABELS | {"x": 1}}, r"`num_labels` is expected to be by task, .* \['x'\]"),
        ({"columns": {"x": {}}}, r"`columns` is expected to be by task, of \['review', 'quest"),
        ({"num_labels": LABELS | {"review": 0}}, r"`num_labels.review` is expected to be at least"),
        ({"max_rows": 0}, r"`max_rows` is expected to be at least 1, but got 0"),
    ],
)
def test_bad_settings(tasks: dict[str, Source], settings: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"tasks": tasks, "num_labels": LABELS}
    with pytest.raises(ValueError, match=message):
        TaskSources(**given | settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"num_labels": LABELS | {"question": 5}},
            r"`label` is expected to name whole numbers from 0 to 4 in tasks.question "
            r"\(`num_labels.question` is 5\), but 'label' has '5' in row 1 \(line 2 of '.*question.csv'\)",
        ),
        ({"label": "y"}, r"`label` is expected to name a column of tasks.review, but got 'y'"),
        (
            {"columns": {"review": {"x": "y"}}},
            r"`columns.review` is expected to name a column of tasks.review, but got 'x'",
        ),
        ({"columns": {"review": {"text": "label"}}}, r"`columns.review` is expected to give names"),
        ({"columns": {"review": {"text": "task"}}}, r"tasks.review is expected to have no column"),
        (
            {"columns": {"review": {"text": "t"}}},
            r"share a column beside 'label' \(see `columns`\), but theirs are {'review': \['t', ",
        ),
    ],
)
def test_bad_tables(tasks: dict[str, Source], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskSources(tasks, **{"num_labels": LABELS} | settings).load()


def test_numbers_of_one_task_and_texts_of_another_are_texts(
    tasks: dict[str, Source], tmp_path: Path
) -> None:
    (tmp_path / "numbers.jsonl").write_text('{"text": 12, "label": 1.0}\n')
    mixed = tasks | {"question": JSONLSource(tmp_path / "numbers.jsonl")}
    rows = TaskSources(mixed, num_labels=LABELS).load()
    assert (rows["text"][2], rows["label"][2]) == ("12", 3)


def test_bad_files(tasks: dict[str, Source], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tasks.review: `path` is expected to be a file"):
        TaskSources(tasks | {"review": CSVSource("nowhere.csv")}, num_labels=LABELS).load()
    (tmp_path / "words.csv").write_text("text,label\nfine,good\n")
    words = tasks | {"review": CSVSource(tmp_path / "words.csv")}
    with pytest.raises(
        ValueError, match=r"tasks.review .*, but 'label' has 'good' in row 0 \(line 2"
    ):
        TaskSources(words, num_labels=LABELS).load()


def test_classes_have_numbers_and_errors_of_nested_sources_are_told(tmp_path: Path) -> None:
    class Saved(Source):
        def load(self) -> Dataset:
            rows = Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]})
            return rows.cast_column("label", ClassLabel(names=["negative", "positive"]))

    class Damaged(Source):
        def load(self) -> Dataset:
            raise RowError("a row has no choices", 3)

    two = TaskSources({"one": Saved(), "two": Saved()}, num_labels={"one": 2, "two": 2})
    assert two.load()["label"][:] == [1, 0, 3, 2]
    with pytest.raises(ValueError, match=r"tasks.one: a row has no choices"):
        TaskSources({"one": Damaged()}, num_labels={"one": 2}).load()
