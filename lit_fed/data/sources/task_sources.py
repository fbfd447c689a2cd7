"""Several tables as the tasks of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_fed.data.columns import (
    column_values,
    number,
    require_column,
    required_values,
    select_rows,
    visible_columns,
    written_values,
)
from lit_fed.data.row_error import RowError, located
from lit_fed.data.sources.source import Source, rows_from_columns
from lit_fed.limits import require_at_least, require_none_or_at_least

if TYPE_CHECKING:
    from datasets import Dataset

_TASK = "task"


class TaskSources(Source):
    r"""Tables of several tasks one after the other, with a column ``task`` that names each row's.

    The columns are those that all tables have; those of numbers in one and of text in another become
    text. One classifier can then learn the tasks in turn: the labels of the first are 0 to its
    `num_labels` - 1, those of the second go on from there, and so forth, in every split alike.

    Args:
        tasks: The tables by task, in order.
        columns: New names of columns, by task: ``{sst2: {sentence: text}}``.
        label: The column of labels, whole numbers from 0 in each table.
        disjoint_labels: Whether each task has labels of its own. False: labels stay as they are.
        num_labels: How many labels each task has. Needed where labels are disjoint, as a split may
            lack some.
        max_rows: At most so many rows of each task, drawn at random. None: all.
        seed: Of that drawing.

    Raises:
        ValueError: If there is no task, `columns` or `num_labels` are not by task, or a number is
            out of range.

    >>> import tempfile, pathlib
    >>> from lit_fed.data import CSVSource
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.csv").write_text("text,label\nfine,1\n")
    >>> _ = (folder / "b.csv").write_text("text,label\nWhere ?,4\n")
    >>> tasks = {"review": CSVSource(folder / "a.csv"), "question": CSVSource(folder / "b.csv")}
    >>> TaskSources(tasks, num_labels={"review": 2, "question": 6}).load()[1]
    {'text': 'Where ?', 'label': 6, 'task': 'question'}
    """

    def __init__(
        self,
        tasks: dict[str, Source],
        columns: dict[str, dict[str, str]] | None = None,
        label: str = "label",
        disjoint_labels: bool = True,
        num_labels: dict[str, int] | None = None,
        max_rows: int | None = None,
        seed: int = 0,
    ) -> None:
        if not tasks:
            raise ValueError("`tasks` is expected to name one source or more, but got none")
        _require_tasks("columns", columns or {}, tasks)
        _require_tasks("num_labels", num_labels or {}, tasks)
        if disjoint_labels and (missing := [t for t in tasks if t not in (num_labels or {})]):
            raise ValueError(
                f"`num_labels` is expected to be given for every task where `disjoint_labels` is "
                f"true, but lacks {missing}"
            )
        for task, count in (num_labels or {}).items():
            require_at_least(f"num_labels.{task}", count, 1)
        require_none_or_at_least("max_rows", max_rows, 1)
        require_at_least("seed", seed, 0)
        self.tasks = tasks
        self.columns = columns or {}
        self.label = label
        self.disjoint_labels = disjoint_labels
        self.num_labels = num_labels or {}
        self.max_rows = max_rows
        self.seed = seed

    def load(self) -> Dataset:
        """Read all tables and join them.

        Raises:
            FileNotFoundError: If one is not there.
            ValueError: If one cannot be read, a column is missing or of several types, or a label
                is none.
        """
        tables = {task: self._table(task, source) for task, source in self.tasks.items()}
        shared = [
            name
            for name in next(iter(tables.values())).column_names
            if all(name in table.column_names for table in tables.values())
        ]
        if set(shared) <= {self.label}:
            have = {task: visible_columns(table) for task, table in tables.items()}
            raise ValueError(
                f"the tables of `tasks` are expected to share a column beside {self.label!r} (see "
                f"`columns`), but theirs are {have}"
            )
        values: dict[str, list[Any]] = {name: [] for name in [*shared, _TASK]}
        offset = 0
        for task, table in tables.items():
            for name in shared:
                if name == self.label and self.disjoint_labels:
                    values[name] += [label + offset for label in self._labels(task, table)]
                elif any(other.features[name] != table.features[name] for other in tables.values()):
                    values[name] += written_values(table, name, f"tasks.{task}")
                else:
                    values[name] += column_values(table, name)
            values[_TASK] += [task] * len(table)
            offset += self.num_labels[task] if self.disjoint_labels else 0
        return rows_from_columns(values, ", ".join(tables))

    def _table(self, task: str, source: Source) -> Dataset:
        try:
            rows = source.load().with_format(None)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"tasks.{task}: {error}") from error
        except ValueError as error:
            raise ValueError(f"tasks.{task}: {error}") from error
        new = self.columns.get(task, {})
        for old in new:
            require_column(rows, old, f"columns.{task}", f"tasks.{task}")
        names = [new.get(name, name) for name in rows.column_names]
        if len(set(names)) != len(names):
            raise ValueError(f"`columns.{task}` is expected to give names that differ, got {names}")
        rows = rows.rename_columns(new) if new else rows
        require_column(rows, self.label, "label", f"tasks.{task}")
        if _TASK in rows.column_names:
            raise ValueError(
                f"tasks.{task} is expected to have no column {_TASK!r}, as that becomes the name "
                f"of its task: rename it by `columns.{task}`"
            )
        if self.disjoint_labels:
            with located(source.place):
                self._labels(task, rows)
        if self.max_rows is None or len(rows) <= self.max_rows:
            return rows
        order = np.random.default_rng(self.seed).permutation(len(rows))
        return select_rows(rows, np.sort(order[: self.max_rows]))

    def _labels(self, task: str, rows: Dataset) -> list[int]:
        count = self.num_labels[task]
        labels = []
        classes = getattr(rows.features[self.label], "names", None) or []
        for row, text in enumerate(required_values(rows, self.label, "label")):
            label = classes.index(text) if text in classes else number(text)
            if label is None or label not in range(count):
                raise RowError(
                    f"`label` is expected to name whole numbers from 0 to {count - 1} in "
                    f"tasks.{task} (`num_labels.{task}` is {count}), but {self.label!r} has "
                    f"{text!r:.60} in row {row}",
                    row,
                )
            labels.append(int(label))
        return labels


def _require_tasks(setting: str, given: Mapping[str, object], tasks: Mapping[str, Source]) -> None:
    if unknown := sorted(given.keys() - tasks.keys()):
        raise ValueError(
            f"`{setting}` is expected to be by task, of {list(tasks)}, but names {unknown}"
        )
