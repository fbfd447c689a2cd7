"""The tables of clients that are separate already, one after the other as a single one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_fed.data.columns import with_texts, written_values
from lit_fed.data.partitioners.partitioner import Positions

if TYPE_CHECKING:
    from datasets import Dataset

_WRITTEN = ("int", "uint", "float", "string", "large_string", "bool")


def require_names(names: Mapping[Any, object]) -> None:
    """Raise unless clients have names that can stand in a line.

    Args:
        names: Something by client.

    Raises:
        TypeError: If a name is no text.
        ValueError: If there is none, or one is blank or holds line ends or control characters.
    """
    if not names:
        raise ValueError("`data.train` is expected to name one client or more, but names none")
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"`data.train` is expected to name clients by texts, but got {name!r}, "
                f"{type(name).__name__}"
            )
        if not name.strip() or not name.isprintable():
            raise ValueError(
                f"`data.train` is expected to name clients by texts of one line that are not blank, but got {name!r}"
            )


def joined_tables(tables: Mapping[str, Dataset]) -> tuple[Dataset, dict[str, Positions]]:
    """One table of all clients' rows, and who has which.

    Args:
        tables: The rows of each client.

    Returns:
        The rows with the columns that all tables have, and the positions of each client's.

    Raises:
        ValueError: If a column is of types that do not go together. Texts and numbers of any kind do: they
            become text, as they are written.

    >>> from datasets import Dataset
    >>> tables = {"b": {"text": ["x", "y"], "age": [3, 4]}, "a": {"text": ["z"], "age": [0.5]}}
    >>> rows, owned = joined_tables({name: Dataset.from_dict(table) for name, table in tables.items()})
    >>> rows["age"][:], owned["a"].tolist()
    (['3', '4', '0.5'], [2])
    """
    from datasets import Features, concatenate_datasets

    first, *others = tables.values()
    shared = [n for n in first.column_names if all(n in table.column_names for table in others)]
    features = Features({name: _common(name, tables) for name in shared})
    parts = []
    for table in tables.values():
        parts.append(_as(table.select_columns(shared), features))
    ends = np.cumsum([len(part) for part in parts])
    starts = ends - [len(part) for part in parts]
    owned = {
        name: np.arange(start, end) for name, start, end in zip(tables, starts, ends, strict=True)
    }
    return concatenate_datasets(parts), owned


def _as(table: Dataset, features: Any) -> Dataset:
    """The table with columns of these types."""
    from datasets import Value

    for name in table.column_names:
        if features[name] == Value("string") and table.features[name] != Value("string"):
            # a cast would write numbers in a way of its own
            table = with_texts(table, name, written_values(table, name, "data.train"))
    return table if table.features == features else table.cast(features)


def _common(column: str, tables: Mapping[str, Dataset]) -> Any:
    """The type of a column in all tables."""
    from datasets import Value

    # a column without any value is of no type yet
    kinds = [
        (name, kind)
        for name, table in tables.items()
        if (kind := table.features[column]) != Value("null")
    ]
    if not kinds:
        return Value("null")
    first, kind = kinds[0]
    if all(type(k) is Value and k.dtype.startswith(_WRITTEN) for _, k in kinds):
        return kind if all(k == kind for _, k in kinds) else Value("string")
    common = kind
    for name, other in kinds[1:]:
        if (found := _nested(common, other)) is None:
            raise ValueError(
                f"`data.train`: column {column!r} is expected to be of one type for all clients, but is {kind} in "
                f"{first!r} and {other} in {name!r}"
            )
        common = found
    return common


def _nested(one: Any, other: Any) -> Any | None:
    """The type of values of both types, where one lacks keys, or has no value that would say of what type it is."""
    from datasets import List, Value

    if one == other or other == Value("null"):
        return one
    if one == Value("null"):
        return other
    if isinstance(one, dict) and isinstance(other, dict):
        keys = {**one, **other}
        found = {
            key: _nested(one.get(key, kind), other.get(key, kind)) for key, kind in keys.items()
        }
        return None if None in found.values() else found
    if type(one) is List and type(other) is List and one.length == other.length:
        inner = _nested(one.feature, other.feature)
        return None if inner is None else List(inner, one.length)
    return None
