"""Text files whose lines follow a pattern."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lit_fed.data.sources.source import Source, existing_file, not_utf8, text_columns

if TYPE_CHECKING:
    from datasets import Dataset


class LinesSource(Source):
    r"""A text file in UTF-8 with one row a line. Blank lines are skipped.

    Args:
        path: The file.
        pattern: A regular expression that matches each whole line; its named groups are the
            columns, which are text as in :class:`CSVSource`. A group that takes no part has no value.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "test.txt"
    >>> _ = file.write_text("0 no movement , no yuks\n")
    >>> LinesSource(file, r"(?P<label>\d) (?P<sentence>.*)").load()[0]
    {'label': '0', 'sentence': 'no movement , no yuks'}
    """

    def __init__(self, path: str | Path, pattern: str) -> None:
        self.path = path
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"`pattern` is expected to be a regular expression, but {pattern!r}: {error}"
            ) from None
        if not self.pattern.groupindex:
            raise ValueError(
                f"`pattern` is expected to have named groups such as (?P<text>.*), but got "
                f"{pattern!r}"
            )

    def load(self) -> Dataset:
        """Read the file.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If it is no UTF-8, is empty, or a line does not match.
        """
        file = existing_file(self.path)
        records, _ = self._records(file)
        if not records:
            raise ValueError(
                f"`path` is expected to be a file with lines, but {str(file)!r} has none"
            )
        return text_columns(
            {name: [record[name] for record in records] for name in records[0]}, file
        )

    def place(self, row: int) -> str:
        """The line of a row; see :meth:`Source.place`."""
        file = existing_file(self.path)
        _, lines = self._records(file)
        return f"line {lines[row]} of {str(file)!r}"

    def _records(self, file: Path) -> tuple[list[dict[str, str | None]], list[int]]:
        """The columns of all lines that are not blank, and the numbers of these lines."""
        records, lines = [], []
        try:
            with file.open(encoding="utf-8-sig") as stream:
                for number, line in enumerate(stream, 1):
                    if not line.strip():
                        continue
                    match = self.pattern.fullmatch(line.rstrip("\n"))
                    if match is None:
                        raise ValueError(
                            f"line {number} of {str(file)!r} does not match `pattern` "
                            f"{self.pattern.pattern!r}: {line.rstrip()!r:.80}"
                        )
                    records.append(match.groupdict())
                    lines.append(number)
        except UnicodeDecodeError:
            raise not_utf8(file) from None
        return records, lines
