from collections.abc import Callable

import numpy as np
import pytest
from datasets import Dataset, Features, Json, List, Value

from lit_fed.data.columns import (
    ROW_ID,
    column_codes,
    in_memory_with_values,
    require_column,
    row_ids,
    select_rows,
    with_values,
)

ROWS = Dataset.from_dict({"label": [5, 3, 4, 3], "author": ["d", "b", None, "a"]})


def test_select_rows_is_select_with_a_fingerprint_of_its_content() -> None:
    selected = select_rows(ROWS, [3, 0])
    assert selected[:] == ROWS.select([3, 0])[:]
    assert selected._fingerprint == select_rows(ROWS, np.array([3, 0]))._fingerprint
    assert selected._fingerprint != select_rows(ROWS, [0, 3])._fingerprint
    nested = select_rows(selected, [1])
    assert nested[:] == {"label": [5], "author": ["d"]}


def test_column_codes_agree_with_numpy() -> None:
    names, codes = column_codes(ROWS, "label", "setting")
    expected_names, expected_codes = np.unique([5, 3, 4, 3], return_inverse=True)
    assert names == [str(name) for name in expected_names]
    assert codes.tolist() == expected_codes.tolist()


def test_a_missing_column_names_setting_and_columns() -> None:
    rows = ROWS.add_column(ROW_ID, range(4))
    with pytest.raises(
        ValueError,
        match=r"`data\.x` .* data\.test, but got 'y'; its columns are \['label', 'author'\]",
    ):
        require_column(rows, "y", "data.x", "data.test")


def test_missing_values_and_nested_columns_are_errors() -> None:
    with pytest.raises(ValueError, match=r"'author', which has no value in 1 of 4 rows"):
        column_codes(ROWS, "author", "data.partitioner.column")
    with pytest.raises(ValueError, match=r"strings or numbers, but 'turns'"):
        column_codes(
            Dataset.from_dict({"turns": [["a"], ["b"]]}), "turns", "data.partitioner.column"
        )


def test_row_ids_survive_selection() -> None:
    assert row_ids(ROWS).tolist() == [0, 1, 2, 3]
    assert row_ids(select_rows(ROWS.add_column(ROW_ID, range(4)), [2, 1])).tolist() == [2, 1]


@pytest.mark.parametrize("change", [with_values, in_memory_with_values])
def test_values_that_arrow_alone_does_not_know(change: Callable[..., Dataset]) -> None:
    turn = {"role": Value("string"), "call": Json()}
    chats = [[{"role": "user", "call": {"n": 1}}], [{"role": "user", "call": None}]]
    rows = Dataset.from_dict({"said": chats}, Features({"said": List(turn)}))
    other = [[{"role": "tool", "call": {"x": [1, "2"]}}], chats[0]]
    changed = change(rows, "said", other)
    assert changed["said"][:] == other
    assert changed.features == rows.features
    assert change(rows, "said", other)._fingerprint == changed._fingerprint
