"""Reading, adding and selecting columns and rows of a table."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lit_fed.data.row_error import RowError

if TYPE_CHECKING:
    from datasets import Dataset

_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_SINGLE: Final = {"float16": np.float16, "float32": np.float32}

ROW_ID = "__index__"
"""The column of row ids: positions in the original table, or in the public set."""


def visible_columns(rows: Dataset) -> list[str]:
    """The columns a user knows of: all but the row id."""
    return [name for name in rows.column_names if name != ROW_ID]


def require_column(rows: Dataset, column: str, setting: str, where: str = "") -> None:
    """Raise unless a table has a column.

    Args:
        rows: The table.
        column: The column that a setting names.
        setting: The setting, as in YAML.
        where: What the table is, for the message, for instance ``data.test``.

    Raises:
        ValueError: Naming the setting, the column and the columns there are.
    """
    if column not in rows.column_names:
        table = where or "the table"
        raise ValueError(
            f"`{setting}` is expected to name a column of {table}, but got {column!r}; "
            f"its columns are {visible_columns(rows)}{_delimiter_hint(rows)}"
        )


def _delimiter_hint(rows: Dataset) -> str:
    """A word where all columns seem to have been read as one."""
    names = visible_columns(rows)
    if len(names) != 1 or not any(mark in names[0] for mark in ",;\t|"):
        return ""
    return ", which is one alone: is it a file with another `delimiter`?"


def is_text(rows: Dataset, column: str) -> bool:
    """Whether a column of a table has texts.

    Args:
        rows: The table.
        column: One of its columns.
    """
    return getattr(rows.features[column], "dtype", None) in ("string", "large_string")


def column_values(rows: Dataset, column: str) -> list[Any]:
    """All values of a column, in the order of the rows.

    >>> from datasets import Dataset
    >>> column_values(Dataset.from_dict({"label": [3, 1]}).select([1, 0]), "label")
    [1, 3]
    """
    values: list[Any] = rows[column][:]
    return values


def written_values(rows: Dataset, column: str, setting: str) -> list[str | None]:
    """A column's values as they are written, which is the same from whatever file they come.

    Text is as it is, ``NA`` and ``null`` included. A whole number is its digits, another number the shortest
    decimal that reads back as the same (``1.0``, ``250.1``, ``1e+16``); so a code such as 250.10 is to be text in
    files that tell text from numbers. Truth values are ``true`` and ``false``, a class of ``ClassLabel`` is its name.

    Args:
        rows: The table.
        column: The column.
        setting: The setting that names the column, for messages.

    Returns:
        The texts; None where there is no value, which NaN and a ``ClassLabel`` of -1 are too.

    Raises:
        RowError: If a value is neither text nor a number.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"code": ["250.10", "NA", None], "price": [250.10, float("nan"), 38.0]})
    >>> written_values(rows, "code", "data.encoding.label"), written_values(rows, "price", "data.encoding.text")
    (['250.10', 'NA', None], ['250.1', None, '38.0'])
    """
    feature = rows.features[column]
    names = getattr(feature, "names", None)
    single = _SINGLE.get(getattr(feature, "dtype", ""), float)
    texts: list[str | None] = []
    for position, value in enumerate(column_values(rows, column)):
        text: str | None
        if value is None or value != value:
            text = None
        elif isinstance(value, str):
            text = value
        elif isinstance(value, bool):
            text = "true" if value else "false"
        elif isinstance(value, int):
            text = str(value) if names is None else _class_name(names, value)
        elif isinstance(value, float):
            text = str(single(value))
        elif isinstance(value, Decimal):
            text = str(value)
        else:
            row = int(row_ids(rows)[position])
            raise RowError(
                f"`{setting}` is expected to name a column of strings or numbers, but {column!r} has "
                f"{type(value).__name__} {value!r:.60} in row {row}",
                row,
            )
        texts.append(text)
    return texts


def _class_name(names: Sequence[str], number: int) -> str | None:
    return names[number] if 0 <= number < len(names) else None


def required_values(rows: Dataset, column: str, setting: str) -> list[str]:
    """A column's values as :func:`written_values` gives them, each of which has to be there and not blank.

    Raises:
        RowError: If a value is missing or blank, or neither text nor a number, or if two values differ in the
            blanks around them alone, so that one of them is most likely a slip.

    >>> from datasets import Dataset
    >>> required_values(Dataset.from_dict({"ward": ["a", ""]}), "ward", "data.partitioner.column")
    Traceback (most recent call last):
    lit_fed.data.row_error.RowError: `data.partitioner.column` names column 'ward', which has no value in 1 of 2 \
rows, the first is row 1
    """
    values = written_values(rows, column, setting)
    require_values(rows, column, setting, [value is None or not value.strip() for value in values])
    present = [value for value in values if value is not None]
    stripped: dict[str, str] = {}
    for value in dict.fromkeys(present):
        other = stripped.setdefault(value.strip(), value)
        if other != value:
            row = int(row_ids(rows)[present.index(value)])
            raise RowError(
                f"`{setting}` names column {column!r}, whose values are expected to differ in more than blanks, "
                f"but are {other!r} and, in row {row}, {value!r}",
                row,
            )
    return present


def require_values(rows: Dataset, column: str, setting: str, missing: Sequence[bool]) -> None:
    """Raise where a column lacks values.

    Args:
        rows: The table, of N rows.
        column: The column.
        setting: The setting that names the column, for messages.
        missing: For each row whether there is none.

    Raises:
        RowError: Naming how many rows, and the first.
    """
    if count := sum(missing):
        row = int(row_ids(rows)[missing.index(True)])
        raise RowError(
            f"`{setting}` names column {column!r}, which has no value in {count} of {len(missing)} rows, "
            f"the first is row {row}",
            row,
        )


def in_written_order(texts: Iterable[str]) -> list[str]:
    """Distinct texts in order: of numbers if each is one, else of characters.

    >>> in_written_order(["10", "9", "10"]), in_written_order(["10", "9", "b"])
    (['9', '10'], ['10', '9', 'b'])
    """
    distinct = set(texts)
    if all(map(_NUMBER.fullmatch, distinct)):
        return sorted(distinct, key=lambda text: (float(text), text))
    return sorted(distinct)


def number(text: str | None) -> float | None:
    """The number that a text is; None if it is none.

    >>> number("0.5"), number("1e-3"), number("1,5"), number("nan")
    (0.5, 0.001, None, None)
    """
    return float(text) if text is not None and _NUMBER.fullmatch(text) else None


def column_codes(
    rows: Dataset, column: str, setting: str
) -> tuple[list[str], npt.NDArray[np.int64]]:
    """A column as codes into its distinct values in order.

    Args:
        rows: The table, of N rows.
        column: The column, of strings or numbers.
        setting: The setting that names the column, for messages.

    Returns:
        The distinct values as they are written, numbers in their order (those of a ``ClassLabel`` in that of
        the classes), and the codes [N].

    Raises:
        ValueError: If the column is not there or lacks values.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"author": ["b", "a", "b"]})
    >>> names, codes = column_codes(rows, "author", setting="data.partitioner.column")
    >>> names, codes.tolist()
    (['a', 'b'], [1, 0, 1])
    """
    require_column(rows, column, setting)
    values = required_values(rows, column, setting)
    classes = getattr(rows.features[column], "names", None)
    present = set(values)
    names = [n for n in classes if n in present] if classes else in_written_order(present)
    code = {name: i for i, name in enumerate(names)}
    return names, np.fromiter((code[value] for value in values), np.int64, len(values))


def with_texts(rows: Dataset, column: str, texts: Sequence[str | None]) -> Dataset:
    """The table with a column that holds other values, which are texts.

    >>> from datasets import Dataset
    >>> with_texts(Dataset.from_dict({"price": [2, 38]}), "price", ["2", "38.00"])["price"][:]
    ['2', '38.00']
    """
    from datasets import Value

    return _replaced(rows, column, texts, Value("string"))


def with_values(rows: Dataset, column: str, values: Sequence[Any]) -> Dataset:
    """The table with a column that holds other values of the same type.

    >>> from datasets import Dataset
    >>> with_values(Dataset.from_dict({"said": [["a"]]}), "said", [["b", "c"]])["said"][:]
    [['b', 'c']]
    """
    return _replaced(rows, column, values, rows.features[column])


def _replaced(rows: Dataset, column: str, values: Sequence[Any], feature: Any) -> Dataset:
    beside = f"{column} as text"
    added = rows.add_column(beside, _arrow_column(values, feature), feature=feature)
    order = rows.column_names
    return added.remove_columns(column).rename_column(beside, column).select_columns(order)


def _arrow_column(values: Sequence[Any], feature: Any) -> Any:
    """Values as Arrow has them: datasets encodes what Arrow alone does not know, such as free-form JSON."""
    from datasets import Dataset, Features

    column = Dataset.from_dict({"values": list(values)}, Features({"values": feature}))
    return column.with_format("arrow")[:]["values"]


def in_memory_with_texts(rows: Dataset, column: str, texts: Sequence[str]) -> Dataset:
    """As :func:`with_texts` for rows that fit in memory; equal rows and texts have equal fingerprints.

    >>> from datasets import Dataset
    >>> in_memory_with_texts(Dataset.from_dict({"said": ["no", "yes"]}).select([1]), "said", ["well"])["said"][:]
    ['well']
    """
    from datasets import Value

    return _replaced_in_memory(rows, column, texts, Value("string"))


def in_memory_with_values(rows: Dataset, column: str, values: Sequence[Any]) -> Dataset:
    """As :func:`with_values` for rows that fit in memory; equal rows and values have equal fingerprints.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"said": [["a"], ["b"]]})
    >>> in_memory_with_values(rows.select([1]), "said", [["b", "c"]])["said"][:]
    [['b', 'c']]
    >>> len(in_memory_with_values(rows.select([]), "said", []))
    0
    """
    return _replaced_in_memory(rows, column, values, rows.features[column])


def _replaced_in_memory(rows: Dataset, column: str, values: Sequence[Any], feature: Any) -> Dataset:
    """Without the files and the bars of ``add_column``, which also does not know rows of which none is selected."""
    import pyarrow as pa
    from datasets import Dataset, DatasetInfo

    features = rows.features.copy()
    features[column] = feature
    table: pa.Table = rows.with_format("arrow")[:]
    place = table.column_names.index(column)
    table = table.set_column(place, column, _arrow_column(values, feature))
    key = hashlib.blake2b(f"{rows._fingerprint}{column}".encode(), digest_size=16)
    for value in values:
        key.update(hashlib.blake2b(repr(value).encode(), digest_size=16).digest())
    return Dataset(table, DatasetInfo(features=features), fingerprint=key.hexdigest())


def select_rows(rows: Dataset, positions: Sequence[int] | npt.NDArray[np.int64]) -> Dataset:
    """Rows by position, many times faster than ``rows.select`` for small selections.

    What takes the time there is the fingerprint, which is made here of the positions alone.

    >>> from datasets import Dataset
    >>> select_rows(Dataset.from_dict({"label": [3, 1, 2]}), [2, 0])["label"][:]
    [2, 3]
    """
    array = np.asarray(positions, np.int64)
    key = rows._fingerprint.encode() + array.tobytes()
    return rows.select(array, new_fingerprint=hashlib.blake2b(key, digest_size=16).hexdigest())


def number_rows(rows: Dataset) -> Dataset:
    """The rows with ids that are their positions here, whatever ids they had.

    >>> from datasets import Dataset
    >>> rows = number_rows(Dataset.from_dict({"label": [3, 1, 2]}))
    >>> row_ids(number_rows(select_rows(rows, [2, 0]))).tolist()
    [0, 1]
    """
    if ROW_ID in rows.column_names:
        rows = rows.remove_columns(ROW_ID)
    return rows.add_column(ROW_ID, np.arange(len(rows)))


def row_ids(rows: Dataset) -> npt.NDArray[np.int64]:
    """Row ids [N]: positions in the original table; where none were added, in this one."""
    if ROW_ID not in rows.column_names:
        return np.arange(len(rows), dtype=np.int64)
    return np.asarray(column_values(rows, ROW_ID), np.int64)
