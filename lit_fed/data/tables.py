"""Loading the tables of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from lit_fed.data.client_tables import joined_tables, require_names
from lit_fed.data.columns import (
    number_rows,
    require_column,
    required_values,
    row_ids,
    select_rows,
    written_values,
)
from lit_fed.data.encodings import Encoding
from lit_fed.data.partitioners.partitioner import Positions
from lit_fed.data.row_error import located
from lit_fed.data.sources import ClientFiles, Source

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
        clients: The positions of each client's rows in `train`, by name. None: still to be divided.
        unanswered: The ids of rows that do not say what is to be predicted, of the tests with such rows.
        left_out: What was left out, or is not learnt, in lines for each table of which something was.
        public_unanswered: The ids of public rows that do not say what is to be predicted.
    """

    train: Dataset
    validation: Dataset | None
    public: Dataset | None
    tests: dict[str, Dataset]
    clients: dict[str, Positions] | None = None
    unanswered: Mapping[str, frozenset[int]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    public_unanswered: frozenset[int] = frozenset()


def load_tables(
    train: Source | Dataset | ClientFiles | Mapping[str, Source | Dataset],
    validation: Source | Dataset | None,
    public: Source | Dataset | None,
    test: Source | Dataset | Mapping[str, Source | Dataset] | None,
    encoding: Encoding,
    tasks: Sequence[str] | None,
    answered: bool = True,
    public_answered: bool = True,
) -> Tables:
    """Load all tables, and prepare the encoding by the training table.

    Args:
        train: The training table, or one of each client by its name.
        validation: Rows for validation, if given.
        public: The public set, if given.
        test: Rows for tests, or several tables by name.
        encoding: How rows are encoded.
        tasks: The values of column ``task`` to keep. None: all rows.
        answered: Whether tests have to say what is to be predicted. Where they need not, the rows that do not, or
            whose value there is blank, have one of the training table.
        public_answered: The same of the public set.

    Raises:
        FileNotFoundError: If a table is not there.
        TypeError: If something else than a table is given.
        ValueError: If a table cannot be read, has no rows, or lacks a column.
    """
    if is_splits(test):
        raise TypeError(
            f"`data.test` is expected to be one split, such as {_split(test, 'test')}, but got a DatasetDict of "
            f"{', '.join(test)}; if these are several tests, give dict(…) of it, the main one first"
        )
    tests = test if isinstance(test, Mapping) else {} if test is None else {"test": test}

    left_out: list[str] = []

    def load(where: str, table: Source | Dataset) -> Dataset:
        return _learnable(where, load_table(where, table, encoding, tasks), encoding, left_out)

    clients = None
    if is_of_clients(train):
        rows, owned = _clients_rows(train, encoding, tasks)
        _kept(rows, owned, "of `data.tasks`")
        rows = _learnable("data.train", rows, encoding, left_out)
        clients = _kept(rows, owned, "with something to learn from")
    else:
        rows = load("data.train", train)
    with naming("data.train"):
        encoding.prepare(rows)
    named = {n: f"data.test.{n}" if tests is test else "data.test" for n in tests}
    unanswered: dict[str, frozenset[int]] = {}
    if not answered:
        for name, table in tests.items():
            tests = {**tests, name: _read(named[name], table)}
            tests[name], without = encoding.answered(tests[name], rows)
            if without:
                unanswered[name] = without
    public_unanswered: frozenset[int] = frozenset()
    if public is not None and not public_answered:
        public, public_unanswered = encoding.answered(_read("data.public", public), rows)
    return Tables(
        rows,
        None if validation is None else load("data.validation", validation),
        None if public is None else load("data.public", public),
        {name: load(where, tests[name]) for name, where in named.items()},
        clients,
        unanswered,
        tuple(left_out),
        public_unanswered,
    )


def _learnable(where: str, rows: Dataset, encoding: Encoding, left_out: list[str]) -> Dataset:
    """The rows that have something to learn from; what is left out, or not learnt, is said in a line each.

    Raises:
        ValueError: If there is none.
    """
    found = encoding.learnable(rows)
    if found is not None and not found[0].all():
        has, lack = found
        first = int(row_ids(rows)[int((~has).argmax())])
        if not has.any():
            raise ValueError(
                f"`{where}` is expected to have rows with {lack}, but none of its {len(rows)} has one: there is "
                f"nothing to learn from"
            )
        left_out.append(
            f"{where}: {int((~has).sum()):,} of {len(rows):,} rows are left out, the first is row {first}: they have "
            f"nothing to learn from, which is {lack}"
        )
        rows = select_rows(rows, np.flatnonzero(has))
    more = encoding.goes_on(rows)
    if more is not None and more.any():
        first = int(row_ids(rows)[int(more.argmax())])
        left_out.append(
            f"{where}: {int(more.sum()):,} of {len(rows):,} chats go on after the assistant's last turn that is not "
            f"blank, the first is row {first}: what follows it is not learnt"
        )
    return rows


def _kept(rows: Dataset, owned: Mapping[str, Positions], what: str) -> dict[str, Positions]:
    """The positions of each client's rows in a table of which some rows have been taken out.

    Raises:
        ValueError: If a client has none left.
    """
    kept = row_ids(rows)
    left = {name: np.flatnonzero(np.isin(kept, own)) for name, own in owned.items()}
    if without := [name for name, own in left.items() if not len(own)]:
        raise ValueError(f"`data.train.{without[0]}` is expected to have rows {what}, but has none")
    return left


def is_of_clients(train: object) -> TypeGuard[ClientFiles | Mapping[str, Source | Dataset]]:
    """Whether a training table is one of each client by its name.

    Raises:
        TypeError: If it is a ``DatasetDict``: its splits are no clients.
    """
    if is_splits(train):
        raise TypeError(
            f"`data.train` is expected to be one split, such as {_split(train, 'train')}, but got a DatasetDict of "
            f"{', '.join(train)}; if these are clients, give dict(…) of it"
        )
    return isinstance(train, ClientFiles | Mapping)


def is_splits(table: object) -> TypeGuard[Mapping[str, Dataset]]:
    """Whether it is a ``DatasetDict``, whose splits are neither clients nor several tests."""
    return isinstance(table, Mapping) and type(table).__name__ == "DatasetDict"


def _split(splits: Mapping[str, object], name: str) -> str:
    return f"splits[{name if name in splits else next(iter(splits), name)!r}]"


def _clients_rows(
    train: ClientFiles | Mapping[str, Source | Dataset],
    encoding: Encoding,
    tasks: Sequence[str] | None,
) -> tuple[Dataset, dict[str, Positions]]:
    """The rows of clients that are separate already, as one table, and the ids of each one's."""
    with naming("data.train"):
        sources = train.sources() if isinstance(train, ClientFiles) else train
    require_names(sources)
    rows, owned = joined_tables(
        {name: read_table(f"data.train.{name}", one, encoding) for name, one in sources.items()}
    )
    return rows_with_ids(rows, "data.train", tasks), owned


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
    return rows_with_ids(read_table(where, source, encoding), where, tasks)


def read_table(where: str, source: Source | Dataset, encoding: Encoding) -> Dataset:
    """Read a table and check that it has rows and the columns that the encoding reads.

    Args:
        where: The setting it comes from, for messages.
        source: The source, or the table itself.
        encoding: What the columns must suffice for.

    Raises:
        FileNotFoundError: If it is not there.
        TypeError: If it is no table.
        ValueError: If it cannot be read, has no rows, or lacks a column or a value.
    """
    rows = _read(where, source)
    encoding.require_columns(rows, where)
    with naming(where), located(place_in(source)):
        encoding.require_values(rows)
    return rows


def place_in(source: object) -> Callable[[int], str | None]:
    """What tells the place of a row, such as its line, of a table that was read from a source."""
    return source.place if isinstance(source, Source) else lambda row: None


def _read(where: str, source: Source | Dataset) -> Dataset:
    from datasets import Dataset

    with naming(where):
        rows = source.load() if isinstance(source, Source) else source
    if not isinstance(rows, Dataset):
        came = f"the class {rows.__name__}" if isinstance(rows, type) else type(rows).__name__
        hint = ", of which datasets.Dataset.from_pandas makes one" if came == "DataFrame" else ""
        raise TypeError(
            f"`{where}` is expected to be a Source or a datasets.Dataset, but got {came}{hint}"
        )
    if rows.format["type"] == "custom":
        raise ValueError(
            f"`{where}` is expected to hold rows as they are to be read, but has a transform (set_transform), which "
            "would not be seen: apply it by `map`"
        )
    rows = rows.with_format(None)
    if not len(rows):
        raise ValueError(f"`{where}` is expected to have rows, but has none")
    return rows


def rows_with_ids(rows: Dataset, where: str, tasks: Sequence[str] | None) -> Dataset:
    """The rows of some tasks, with ids that are their positions among all."""
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
    values, wanted = written_values(rows, TASK, "data.tasks"), set(tasks)
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
    present = set(required_values(rows, TASK, "data.tasks"))
    if unknown := [task for task in tasks if task not in present]:
        raise ValueError(
            f"`data.tasks` is expected to name tasks of {where}, but got {unknown}; its tasks are "
            f"{sorted(present)}"
        )
