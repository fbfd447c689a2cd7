"""The base class of tables to read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


class Source(ABC):
    """One table: where it is and how it is read. Nothing is read before :meth:`load`."""

    @abstractmethod
    def load(self) -> Dataset:
        """Read the table.

        Raises:
            FileNotFoundError: If there is no such file, folder or data set.
            ValueError: If it cannot be read as what it is said to be.
        """

    def place(self, row: int) -> str | None:
        """Where a row is, for messages, such as ``line 3 of 'notes.csv'``; None where rows have no place.

        Args:
            row: Its position in the table that :meth:`load` gives.
        """
        return None


def existing_file(path: str | Path) -> Path:
    """The path, if a file is there.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it is something else than a file.
    """
    file = Path(path).expanduser()
    if not file.exists():
        raise FileNotFoundError(
            f"`path` is expected to be a file, but {str(file)!r} does not exist"
        )
    if not file.is_file():
        raise ValueError(f"`path` is expected to be a file, but {str(file)!r} is a folder")
    return file


def not_utf8(file: Path) -> ValueError:
    """The error of a text file in another encoding than UTF-8."""
    content = file.read_bytes()
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        where = f" (byte {content[error.start]:#x} in line {line})"
    else:
        where = ""
    return ValueError(
        f"`path` is expected to be a text file in UTF-8, but {str(file)!r} is not{where}"
    )


def dataset_of(table: pa.Table, origin: str | Path) -> Dataset:
    """An Arrow table as a data set.

    Args:
        table: The table.
        origin: Where it comes from, for messages.

    Raises:
        ValueError: If it has columns that a data set cannot have.
    """
    from datasets import Dataset

    if bad := [name for name in table.column_names if "\x00" in name]:
        raise ValueError(f"a column of {str(origin)!r} has a name with a zero byte: {bad[0]!r:.60}")
    try:
        return Dataset(table)
    # of types nested deep or into one another, datasets and Arrow raise whatever they like
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{str(origin)!r} has a column of a type that cannot be read: {reason:.200}"
        ) from None


def text_columns(columns: Mapping[str, Sequence[str | None]], origin: str | Path) -> Dataset:
    """A table of texts, none of which need be there.

    Args:
        columns: Texts by column, all of the same length.
        origin: Where they come from, for messages.
    """
    import pyarrow as pa

    arrays = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    return dataset_of(pa.table(arrays), origin)


def rows_from_columns(
    columns: Mapping[str, Sequence[Any]], origin: str | Path, places: Sequence[str] | None = None
) -> Dataset:
    """A table of Python values, with Arrow's types.

    Args:
        columns: Values by column, all of the same length.
        origin: Where they come from, for messages.
        places: Where each row is there, such as ``line 3``. None: its number is told.

    Raises:
        ValueError: If a column mixes types, or a value is one that no table can hold.
    """
    import pyarrow as pa

    arrays = {}
    for name, values in columns.items():
        reason = _refusal(values)
        if reason is not None:
            row = bisect_left(range(1, len(values)), 1, key=lambda n: bool(_refusal(values[:n])))
            where = f"row {row}" if places is None else places[row]
            raise ValueError(
                f"column {name!r} of {str(origin)!r} mixes types, or has a value that cannot be held, in "
                f"{where}: {reason}"
            )
        arrays[name] = pa.array(values)
    return dataset_of(pa.table(arrays), origin)


def _refusal(values: Sequence[Any]) -> str | None:
    """Why Arrow does not take a column; None if it does."""
    import pyarrow as pa

    try:
        pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeError, TypeError, RecursionError) as error:
        return (str(error).splitlines() or [type(error).__name__])[0]
    return None
