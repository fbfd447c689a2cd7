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

    A key that a row lacks has no value there. A column of whole numbers and fractions becomes text, each number as
    it is written, since a type for both would make 1.0 of 1; so does one of whole numbers beyond 64 bits.

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
        records, places = self._records(file)
        if not records:
            raise ValueError(
                f"`path` is expected to be a file with rows, but {str(file)!r} has none"
            )
        names = dict.fromkeys(name for record in records for name in record)
        if not names:
            raise ValueError(
                f"`path` is expected to be a file of objects with keys, but those of {str(file)!r} have none"
            )
        try:
            return rows_from_columns(
                {name: _numbers([record.get(name) for record in records]) for name in names},
                file,
                places,
            )
        except UnicodeError as error:
            raise ValueError(
                f"a key of {str(file)!r} is expected to be text, but: {error}"
            ) from None

    def place(self, row: int) -> str:
        """The line of a row, or its item in an array; see :meth:`Source.place`."""
        file = existing_file(self.path)
        return f"{self._records(file)[1][row]} of {str(file)!r}"

    def _records(self, file: Path) -> tuple[list[dict[str, Any]], list[str]]:
        """All objects, and where each of them is."""
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise not_utf8(file) from None
        if text.lstrip().startswith("["):
            items = _decoded(file, text, "")
            found = [(f"item {i}", item) for i, item in enumerate(items)]
        else:
            # Not splitlines: it also breaks at characters which may stand inside a JSON string.
            found = [
                (f"line {number}", _decoded(file, line, f"line {number}"))
                for number, line in enumerate(text.split("\n"), 1)
                if line.strip()
            ]
        for place, record in found:
            if not isinstance(record, dict):
                raise ValueError(
                    f"{place} of {str(file)!r} is expected to be an object, but is {record!r:.60}"
                )
        return [record for _, record in found], [place for place, _ in found]


def _decoded(file: Path, text: str, place: str) -> Any:
    """A JSON text; `place` is where it is, if it is one line of several."""
    try:
        value = json.loads(text)
        # What is nested as deep as it can be read cannot be told in a message, nor held in a table.
        repr(value)
        return value
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{place or f'line {error.lineno}'} of {str(file)!r} is not JSON: {error.msg}"
        ) from None
    except RecursionError:
        raise ValueError(
            f"{place or 'line 1'} of {str(file)!r} cannot be read: it is nested too deep"
        ) from None
    except ValueError as error:
        # a number of thousands of digits
        reason = str(error).partition(";")[0]
        raise ValueError(f"{place or 'line 1'} of {str(file)!r} cannot be read: {reason}") from None


def _numbers(values: list[Any]) -> list[Any]:
    """A column's values; as text, as they are written, if they are numbers that no one type can hold."""
    kinds = {type(value) for value in values if value is not None}
    mixed = kinds == {int, float}
    if mixed or (
        kinds == {int} and any(not -(2**63) <= v < 2**63 for v in values if v is not None)
    ):
        return [None if value is None or value != value else str(value) for value in values]
    return values
