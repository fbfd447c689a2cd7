"""Text files of rows with a delimiter: CSV and TSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lit_fed.data.sources.source import Source, existing_file, not_utf8, text_columns

if TYPE_CHECKING:
    from datasets import Dataset

_CSV_FIELD_LIMIT = 2**31 - 1


class CSVSource(Source):
    r"""A CSV file in UTF-8.

    All columns are text exactly as it is, numbers (``007``, ``250.10``) and ``NA`` included; what needs a number
    reads it from the text. Blank lines are skipped.

    Args:
        path: The file.
        delimiter: The character between fields; ``\t`` for a tab.
        header: Whether the first line names the columns.
        columns: Names of the columns. Needed where there is no header; with one, they replace it.
        quote: The character around fields that hold delimiters or line ends. None: there is none,
            and such characters are plain text.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "train.csv"
    >>> _ = file.write_text('0,What is an atom ?\n3,"Who, then, was Galileo ?"\n')
    >>> CSVSource(file, header=False, columns=["label", "text"]).load()[1]
    {'label': '3', 'text': 'Who, then, was Galileo ?'}
    """

    def __init__(
        self,
        path: str | Path,
        delimiter: str = ",",
        header: bool = True,
        columns: list[str] | None = None,
        quote: str | None = '"',
    ) -> None:
        self.path = path
        self.delimiter = "\t" if delimiter == r"\t" else delimiter
        self.header = header
        self.columns = columns
        self.quote = quote
        if len(self.delimiter) != 1:
            raise ValueError(f"`delimiter` is expected to be one character, but got {delimiter!r}")
        if quote is not None and len(quote) != 1:
            raise ValueError(f"`quote` is expected to be one character or null, but got {quote!r}")
        if not header and not columns:
            raise ValueError(
                "`columns` is expected to name the columns where `header` is false, but got none"
            )

    def load(self) -> Dataset:
        """Read the file.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If it is no UTF-8, empty, or a row has another number of fields than the
                rest.
        """
        file = existing_file(self.path)
        records, lines = self._records(file)
        header = records.pop(0) if self.header and records else None
        if header is not None:
            lines.pop(0)
        names = self._names(file, header, records)
        for record, line in zip(records, lines, strict=True):
            if len(record) != len(names):
                raise ValueError(
                    f"line {line} of {str(file)!r} has {len(record)} fields where {len(names)} are "
                    f"expected (delimiter {self.delimiter!r})"
                )
        values: Iterable[tuple[str, ...]] = (
            zip(*records, strict=True) if records else [()] * len(names)
        )
        return text_columns(dict(zip(names, values, strict=True)), file)

    def place(self, row: int) -> str:
        """The line that a row ends on; see :meth:`Source.place`."""
        file = existing_file(self.path)
        _, lines = self._records(file)
        return f"line {lines[row + self.header]} of {str(file)!r}"

    def _records(self, file: Path) -> tuple[list[list[str]], list[int]]:
        """All records that are not blank, and the lines they end on."""
        limit = csv.field_size_limit(_CSV_FIELD_LIMIT)
        try:
            # utf-8-sig takes off the byte order mark that spreadsheets write.
            with file.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.reader(
                    stream,
                    delimiter=self.delimiter,
                    quotechar=self.quote,
                    quoting=csv.QUOTE_NONE if self.quote is None else csv.QUOTE_MINIMAL,
                    strict=True,
                )
                records, lines = [], []
                try:
                    for record in reader:
                        if record:
                            records.append(record)
                            lines.append(reader.line_num)
                except csv.Error as error:
                    raise ValueError(
                        f"line {reader.line_num} of {str(file)!r} is not well-formed: {error}; if "
                        f"quotes are plain text in this file, set `quote: null`"
                    ) from None
        except UnicodeDecodeError:
            raise not_utf8(file) from None
        finally:
            csv.field_size_limit(limit)
        return records, lines

    def _names(self, file: Path, header: list[str] | None, records: list[list[str]]) -> list[str]:
        first = header if header is not None else (records[0] if records else None)
        if first is None:
            raise ValueError(
                f"`path` is expected to be a file with rows, but {str(file)!r} is empty"
            )
        names = self.columns or header or []
        if len(names) != len(first):
            raise ValueError(
                f"`columns` is expected to name the {len(first)} columns of {str(file)!r}, but got "
                f"{names} (delimiter {self.delimiter!r})"
            )
        if len(set(names)) != len(names):
            raise ValueError(f"`columns` of {str(file)!r} are expected to differ, but are {names}")
        return names


class TSVSource(CSVSource):
    r"""A TSV file in UTF-8. Unlike in CSV, quotes are plain text unless `quote` is set.

    Args:
        path: The file.
        header: Whether the first line names the columns.
        columns: Names of the columns. Needed where there is no header; with one, they replace it.
        quote: The character around fields that hold delimiters or line ends, if there is one.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "train.tsv"
    >>> _ = file.write_text('sentence\tlabel\n"a stirring , funny film\t1\n')
    >>> TSVSource(file).load()[0]
    {'sentence': '"a stirring , funny film', 'label': '1'}
    """

    def __init__(
        self,
        path: str | Path,
        header: bool = True,
        columns: list[str] | None = None,
        quote: str | None = None,
    ) -> None:
        super().__init__(path, "\t", header, columns, quote)
