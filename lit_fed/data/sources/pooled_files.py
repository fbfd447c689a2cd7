"""The rows of several files in one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lit_fed.data.sources.client_files import ClientFiles
from lit_fed.data.sources.source import Source

if TYPE_CHECKING:
    from datasets import Dataset


class PooledFiles(Source):
    r"""The rows of all files that a pattern finds, one file after the other, with a column of each row's file.

    So what :class:`ClientFiles` makes clients of is one table: all rows in one place, or clients of another division.

    Args:
        pattern: The files; see :class:`ClientFiles`.
        source: What reads a file, given its path. None: what its ending says.
        column: The column of the names that the files would have as clients.

    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "ward-b.csv").write_text("text,label\nfine,1\n")
    >>> _ = (folder / "ward-a.csv").write_text("text,label\ndull,0\n")
    >>> PooledFiles(f"{folder}/*.csv").load()[1]
    {'text': 'fine', 'label': '1', 'client': 'ward-b'}
    """

    def __init__(
        self, pattern: str, source: Callable[[str], Source] | None = None, column: str = "client"
    ) -> None:
        self.files = ClientFiles(pattern, source)
        self.column = column
        self._ends: list[tuple[int, Source]] = []

    def load(self) -> Dataset:
        """Read the files.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If one cannot be read, has other columns than the first, or the column of names already.
        """
        from datasets import concatenate_datasets

        tables: list[Dataset] = []
        self._ends, rows = [], 0
        for name, source in self.files.sources().items():
            table = source.load()
            if self.column in table.column_names:
                raise ValueError(
                    f"`column` is expected to be a new one, but {name!r} of {self.files.pattern!r} has {self.column!r}"
                )
            if tables and set(table.column_names) != set(tables[0].column_names) - {self.column}:
                raise ValueError(
                    f"the files of {self.files.pattern!r} are expected to have the same columns, but {name!r} has "
                    f"{table.column_names}"
                )
            tables.append(table.add_column(self.column, [name] * len(table)))
            rows += len(table)
            self._ends.append((rows, source))
        try:
            return concatenate_datasets(tables)
        except ValueError as error:
            raise ValueError(
                f"the files of {self.files.pattern!r} are expected to have columns of the same types, but: {error}"
            ) from None

    def place(self, row: int) -> str | None:
        """Where a row is in its file, see :meth:`Source.place`."""
        start = 0
        for end, source in self._ends:
            if row < end:
                return source.place(row - start)
            start = end
        return None
