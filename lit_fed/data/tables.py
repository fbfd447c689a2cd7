"""Loading the tables of an experiment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lit_fed.data.columns import column_values, number_rows, require_column, select_rows
from lit_fed.data.encodings import Encoding
from lit_fed.data.sources import Source

if TYPE_CHECKING:
    from datasets import Dataset

TASK = "task"
"""The column of tasks."""


@dataclass(frozen=True)
class Tables:
    """All tables of an experiment.

    Attributes:
        train: The training table.
        validation: The server's validation rows. None: still to be carved off.
        public: The public set. None: still to be carved off.
        tests: Tests by name.
    """

    train: Dataset
    validation: Dataset | None
    public: Dataset | None
    tests: dict[str, Dataset]


def load_tables(
    train: Source | Dataset,
    validation: Source | Dataset | None,
    public: Source | Dataset | None,
    test: Source | Dataset | Mapping[str, Source | Dataset] | None,
    encoding: Encoding,
    tasks: Sequence[str] | None,
) -> Tables:
    """Load all tables, and prepare the encoding by the training table.

    Args:
        train: The training table.
        validation: Rows for validation, if given.
        public: The public set, if given.
        test: Rows for tests, or several tables by name.
        encoding: How rows are encoded.
        tasks: The values of column ``task`` to keep. None: all rows.

    Raises:
        FileNotFoundError: If a table is not there.
        TypeError: If something else than a table is given.
        ValueError: If a table cannot be read, has no rows, or lacks a column.
    """
    tests = test if isinstance(test, Mapping) else {} if test is None else {"test": test}

    def load(where: str, table: Source | Dataset) -> Dataset:
        return load_table(where, table, encoding, tasks)

    rows = load("data.train", train)
    with naming("data.train"):
        encoding.prepare(rows)
    return Tables(
        rows,
        None if validation is None else load("data.validation", validation),
        None if public is None else load("data.public", public),
        {
            name: load(f"data.test.{name}" if tests is test else "data.test", table)
            for name, table in tests.items()
        },
    )


def load_table(
    where: str, source: Source | Dataset, encoding: Encoding, tasks: Sequence[str] | None = None
) -> Dataset:
    """Load a table, number its rows and keep those of some tasks.

    Args:
        where: The setting it comes from, for messages.
        source: The source, or the table itself.
        encoding: What the columns must suffice for.
        tasks: The values of column ``task`` to keep. None: all rows.

    Returns:
        The table with a column of row ids: positions in the table as it is loaded.

    Raises:
        FileNotFoundError: If it is not there.
        TypeError: If it is no table.
        ValueError: If it cannot be read, has no rows, or lacks a column.
    """
    from datasets import Dataset

    with naming(where):
        rows = source.load() if isinstance(source, Source) else source
    if not isinstance(rows, Dataset):
        raise TypeError(
            f"`{where}` is expected to be a Source or a datasets.Dataset, but got "
            f"{type(rows).__name__}"
        )
    rows = rows.with_format(None)
    if not len(rows):
        raise ValueError(f"`{where}` is expected to have rows, but has none")
    encoding.require_columns(rows, where)
    rows = number_rows(rows)
    if tasks is None:
        return rows
    _check_tasks(where, rows, tasks)
    return rows_of_tasks(rows, tasks)


def rows_of_tasks(rows: Dataset, tasks: Sequence[str]) -> Dataset:
    """The rows with these values of the column ``task``, in their order.

    >>> from datasets import Dataset
    >>> rows_of_tasks(Dataset.from_dict({"task": ["a", "b", "a"], "label": [0, 1, 2]}), ["a"])["label"][:]
    [0, 2]
    """
    values, wanted = column_values(rows, TASK), set(tasks)
    return select_rows(rows, np.flatnonzero([value in wanted for value in values]))


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Name a setting in errors that tell of its value."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{where}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _check_tasks(where: str, rows: Dataset, tasks: Sequence[str]) -> None:
    if not tasks or len(set(tasks)) < len(tasks):
        raise ValueError(
            f"`data.tasks` is expected to name one task or more, each once, but got {list(tasks)}"
        )
    require_column(rows, TASK, "data.tasks", where)
    present = set(column_values(rows, TASK))
    if unknown := [task for task in tasks if task not in present]:
        raise ValueError(
            f"`data.tasks` is expected to name tasks of {where}, but got {unknown}; its tasks are "
            f"{sorted(present)}"
        )
