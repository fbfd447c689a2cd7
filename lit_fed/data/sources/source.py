"""The base class of tables to read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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


def not_utf8(file: Path, error: UnicodeDecodeError) -> ValueError:
    """The error of a text file in another encoding than UTF-8."""
    return ValueError(
        f"`path` is expected to be a text file in UTF-8, but {str(file)!r} is not (byte "
        f"{error.object[error.start]:#x})"
    )


def rows_from_columns(columns: Mapping[str, Sequence[Any]], origin: str | Path) -> Dataset:
    """A table of Python values, with Arrow's types.

    Args:
        columns: Values by column, all of the same length.
        origin: Where they come from, for messages.

    Raises:
        ValueError: If a column mixes types.
    """
    import pyarrow as pa
    from datasets import Dataset

    arrays = {}
    for name, values in columns.items():
        try:
            arrays[name] = pa.array(values)
        except pa.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"column {name!r} of {str(origin)!r} mixes types: {reason}") from None
    return Dataset(pa.table(arrays))
