"""Errors of a single row of a table, which name its place in a file where there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class RowError(ValueError):
    """Something is wrong in a row of a table.

    Args:
        message: What is wrong; it names the row.
        row: The row's position in the table as it was loaded.
    """

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


@contextmanager
def located(place: Callable[[int], str | None]) -> Iterator[None]:
    """Add a row's place in a file to errors of that row.

    Args:
        place: Tells where a row is, such as ``line 3 of 'notes.csv'``; None where that is not known.

    >>> with located(lambda row: f"line {row + 2} of 'notes.csv'"):
    ...     raise RowError("there is no label in row 1", 1)
    Traceback (most recent call last):
    ValueError: there is no label in row 1 (line 3 of 'notes.csv')
    """
    try:
        yield
    except RowError as error:
        found = place(error.row)
        if found is None:
            raise
        raise ValueError(f"{error} ({found})") from None
