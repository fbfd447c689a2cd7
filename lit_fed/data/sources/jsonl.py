"""JSON files of rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_fed.data.sources.source import Source, existing_file, not_utf8, rows_from_columns

if TYPE_CHECKING:
    from datasets import Dataset


class JSONLSource(Source):
    r"""A file with a JSON object on each line, or with one JSON array of objects.

    A key that a row lacks has no value there.

    Args:
        path: The file.

    >>> import tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "train.jsonl"
    >>> _ = file.write_text('{"query": "Predators eat", "gold": 2}\n')
    >>> JSONLSource(file).load()[0]
    {'query': 'Predators eat', 'gold': 2}
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path

    def load(self) -> Dataset:
        """Read the file.

        Raises:
            FileNotFoundError: If it does not exist.
            ValueError: If it is no UTF-8 or no JSON, or a row is no object.
        """
        file = existing_file(self.path)
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise not_utf8(file, error) from None
        records = (
            self._array(file, text) if text.lstrip().startswith("[") else self._lines(file, text)
        )
        if not records:
            raise ValueError(
                f"`path` is expected to be a file with rows, but {str(file)!r} has none"
            )
        names = dict.fromkeys(name for record in records for name in record)
        return rows_from_columns(
            {name: [record.get(name) for record in records] for name in names}, file
        )

    def _array(self, file: Path, text: str) -> list[dict[str, Any]]:
        try:
            records = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"line {error.lineno} of {str(file)!r} is not JSON: {error.msg}"
            ) from None
        for i, record in enumerate(records):
            if not isinstance(record, dict):
                raise ValueError(
                    f"item {i} of {str(file)!r} is expected to be an object, but is {record!r:.60}"
                )
        return list(records)

    def _lines(self, file: Path, text: str) -> list[dict[str, Any]]:
        records = []
        # Not splitlines: it also breaks at characters which may stand inside a JSON string.
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(
                    f"line {number} of {str(file)!r} is not JSON: {error.msg}"
                ) from None
            if not isinstance(record, dict):
                raise ValueError(
                    f"line {number} of {str(file)!r} is expected to be an object, but is "
                    f"{record!r:.60}"
                )
            records.append(record)
        return records
