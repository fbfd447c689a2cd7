"""The labels of a table's rows by their names, as settings of attacks name them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from lit_fed.data.columns import column_values
from lit_fed.suggestion import did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import Encoding


@dataclass(frozen=True)
class KnownLabels:
    """The labels that rows have.

    Attributes:
        of_rows: Gives the labels of rows as numbers, [N].
        column: The column of the labels.
        numbers: A label's number by its name, which is the number itself where labels have no names.
        values: What stands in the column for a label, by its number.
    """

    of_rows: Callable[[Dataset], npt.NDArray[np.int64]]
    column: str
    numbers: dict[str, int]
    values: dict[int, Any]

    @classmethod
    def of(cls, encoding: Encoding, tables: Iterable[Dataset], setting: str) -> Self:
        """Those of tables.

        Args:
            encoding: How rows become labels.
            tables: The tables, such as all clients' rows.
            setting: What asks, for messages.

        Raises:
            ValueError: If rows have no label each.
        """
        label_ids = getattr(encoding, "label_ids", None)
        if encoding.label_column is None or label_ids is None:
            raise ValueError(
                f"{setting} expects rows with one label each, but those of `data.encoding` "
                f"{type(encoding).__name__} have none"
            )
        values: dict[int, Any] = {}
        for rows in tables:
            raw = column_values(rows, encoding.label_column)
            for number, value in zip(label_ids(rows).tolist(), raw, strict=True):
                values.setdefault(number, value)
        names = encoding.names or []
        numbers = {names[n] if n < len(names) else str(n): n for n in sorted(values)}
        return cls(label_ids, encoding.label_column, numbers, values)

    def number(self, label: str | int, setting: str) -> int:
        """A label's number.

        Args:
            label: Its name, or where labels have no names its number.
            setting: The setting that names it.

        Raises:
            ValueError: If no row has it.
        """
        found = self.numbers.get(str(label))
        if found is None:  # a value as the column has it: True is the label "true"
            found = next((number for number, value in self.values.items() if value == label), None)
        if found is None:
            raise ValueError(
                f"{setting} is expected to be a label of the training rows, which are {', '.join(self.numbers)}, but "
                f"got {label!r}{did_you_mean(str(label), self.numbers)}"
            )
        return found
