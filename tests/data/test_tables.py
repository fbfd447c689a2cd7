from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from lit_fed.data import ClassificationEncoding, CSVSource
from lit_fed.data.columns import ROW_ID
from lit_fed.data.tables import load_table, load_tables

ENCODING = ClassificationEncoding("text", None)
ROWS = Dataset.from_dict({"text": list("abcd"), "label": [0, 1, 0, 1], "task": list("xyxz")})


def test_rows_are_numbered() -> None:
    assert load_table("data.train", ROWS, ENCODING)[ROW_ID][:] == [0, 1, 2, 3]
    reordered = load_table("data.train", ROWS, ENCODING).select([2, 0])
    assert load_table("data.train", reordered, ENCODING)[ROW_ID][:] == [0, 1]


def test_formats_are_taken_off() -> None:
    rows = load_table("data.train", ROWS.with_format("numpy"), ENCODING)
    assert rows[0]["text"] == "a"
    assert isinstance(rows[0]["label"], int)


def test_tasks_are_chosen_and_rows_keep_their_numbers() -> None:
    rows = load_table("data.train", ROWS, ENCODING, ["x", "z"])
    assert rows[ROW_ID][:] == [0, 2, 3]
    with pytest.raises(
        ValueError,
        match=r"`data.tasks` .* of data.test, but got \['w'\]; its tasks are \['x', 'y', 'z'\]",
    ):
        load_table("data.test", ROWS, ENCODING, ["x", "w"])
    with pytest.raises(ValueError, match=r"`data.tasks` is expected to name one task or more"):
        load_table("data.test", ROWS, ENCODING, [])
    with pytest.raises(
        ValueError, match=r"`data.tasks` is expected to name a column of data.test, but got 'task'"
    ):
        load_table("data.test", ROWS.remove_columns("task"), ENCODING, ["x"])


def test_tests_by_name_or_one() -> None:
    one = load_tables(ROWS, None, None, ROWS, ENCODING, None)
    assert list(one.tests) == ["test"]
    assert one.validation is one.public is None
    many = load_tables(ROWS, ROWS, ROWS, {"new": ROWS, "old": ROWS.select([0])}, ENCODING, None)
    assert {name: len(rows) for name, rows in many.tests.items()} == {"new": 4, "old": 1}


def test_errors_name_the_table(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"data.public: `path` is expected to be a file, but"
    ):
        load_tables(ROWS, None, CSVSource(tmp_path / "nope.csv"), None, ENCODING, None)
    (tmp_path / "bad.csv").write_text("text,label\na\n")
    with pytest.raises(ValueError, match=r"data.test.new: line 2 of .* has 1 fields"):
        load_tables(ROWS, None, None, {"new": CSVSource(tmp_path / "bad.csv")}, ENCODING, None)
    with pytest.raises(ValueError, match=r"`data.test` is expected to have rows, but has none"):
        load_tables(ROWS, None, None, ROWS.select([]), ENCODING, None)
    with pytest.raises(
        ValueError, match=r"`data.encoding.text` is expected to name a column of data.validation"
    ):
        load_tables(ROWS, ROWS.remove_columns("text"), None, None, ENCODING, None)
    with pytest.raises(
        TypeError,
        match=r"`data.train` is expected to be one split, such as splits\['train'\], but got a DatasetDict",
    ):
        load_tables(DatasetDict({"train": ROWS}), None, None, None, ENCODING, None)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError,
        match=r"data.train: `data.encoding.label` is expected to name a column of strings or numbers",
    ):
        load_tables(
            Dataset.from_dict({"text": ["a"], "label": [[1]]}), None, None, None, ENCODING, None
        )


def test_splits_are_no_tests_and_a_transform_is_not_read() -> None:
    splits = DatasetDict(train=ROWS, test=ROWS.select([1]))
    with pytest.raises(TypeError, match=r"`data.test` .* one split, such as splits\['test'\], but"):
        load_tables(ROWS, None, None, splits, ENCODING, None)
    both = load_tables(ROWS, None, None, dict(splits), ENCODING, None)
    assert list(both.tests) == ["train", "test"]
    shouting = ROWS.with_transform(lambda batch: {"text": [t.upper() for t in batch["text"]]})
    with pytest.raises(ValueError, match=r"`data.train` .* has a transform .* apply it by `map`"):
        load_tables(shouting, None, None, None, ENCODING, None)
