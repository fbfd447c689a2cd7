"""The digest of a table: its values in their order, and nothing else."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, concatenate_datasets

from lit_fed.data.digest import rows_digest

COLUMNS: dict[str, list[Any]] = {
    "text": ["a", "bc", None, "üé"],
    "number": [1, -2, None, 4],
    "real": [0.5, 1.0, 2.0, None],
    "flag": [True, False, None, False],
    "list": [[1, 2], [], None, [3]],
    "words": [["a"], ["b", "c"], [], None],
    "struct": [{"x": 1, "y": "u"}, {"x": 2, "y": None}, {"x": None, "y": "v"}, {"x": 4, "y": ""}],
    "day": [datetime.datetime(2020, 1, day) for day in (1, 2, 3, 4)],
    "none": [None] * 4,
}


@pytest.fixture
def rows() -> Dataset:
    return Dataset.from_dict(COLUMNS)


def test_how_values_lie_makes_no_difference(rows: Dataset, tmp_path: Path) -> None:
    digest = rows_digest(rows)
    selected = rows.select([3, 0, 1, 2]).select([1, 2, 3, 0])
    parts = concatenate_datasets([rows.select([n]) for n in range(4)])
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    stored = Dataset.from_parquet(str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "c"))
    turned = rows.select_columns(list(reversed(rows.column_names)))
    for other in (selected, parts, stored, turned, rows.with_format("numpy")):
        assert rows_digest(other) == digest


def test_widths_of_numbers_and_of_texts_make_no_difference() -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "number": np.array([1, 2], np.int32)})
    plain = Dataset.from_dict({"text": ["a", "b"], "number": [1, 2]})
    assert rows_digest(Dataset.from_pandas(frame)) == rows_digest(plain)


@pytest.mark.parametrize("column", [name for name in COLUMNS if name != "none"])
def test_every_value_counts(column: str, rows: Dataset) -> None:
    digest = rows_digest(rows)
    values = [*COLUMNS[column][:3], COLUMNS[column][0]]  # another last value
    assert rows_digest(Dataset.from_dict({**COLUMNS, column: values})) != digest
    turned = [COLUMNS[column][1], COLUMNS[column][0], *COLUMNS[column][2:]]
    assert rows_digest(Dataset.from_dict({**COLUMNS, column: turned})) != digest


def test_where_a_value_ends_and_what_a_column_is_called_count() -> None:
    def digest(**columns: list[Any]) -> str:
        return rows_digest(Dataset.from_dict(columns))

    assert digest(a=["ab", "c"]) != digest(a=["a", "bc"])
    assert digest(a=["", "x"]) != digest(a=[None, "x"])
    assert digest(a=[0, 1]) != digest(a=[None, 1])
    assert digest(a=["x"]) != digest(b=["x"])
    assert digest(a=[[1], [2, 3]]) != digest(a=[[1, 2], [3]])


def test_a_table_of_many_parts_is_read_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Dataset.from_dict({"text": [str(n) for n in range(100)]})
    whole = rows_digest(rows.select(range(100)))
    monkeypatch.setattr("lit_fed.data.digest._ROWS", 7)
    order = list(np.random.default_rng(0).permutation(100))
    back = [order.index(n) for n in range(100)]
    assert rows_digest(rows) == rows_digest(rows.select(order).select(back)) != whole
