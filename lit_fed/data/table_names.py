"""What the tables of a federation are called where others read it: without the folders of the machine they lie on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final, NamedTuple

from lit_fed.data.sources import ClientFiles, HubSource

# A name on the hub is `name` or `owner/name`.
_ON_HUB: Final = re.compile(r"[\w.-]+(/[\w.-]+)?")


class TableName(NamedTuple):
    """What a table is called.

    Attributes:
        name: Its name on the hub, the name of its file, or the class that makes it.
        on_hub: Whether it is one on the hub.
    """

    name: str
    on_hub: bool = False


def table_name(table: Any) -> TableName:
    """What a table is called.

    Args:
        table: A source, a ``datasets.Dataset``, or what names clients: a mapping of such, or :class:`ClientFiles`.

    >>> table_name(HubSource("stanfordnlp/sst2"))
    TableName(name='stanfordnlp/sst2', on_hub=True)
    >>> table_name(ClientFiles("/data/wards/*.csv"))
    TableName(name='*.csv, a file of each client', on_hub=False)
    """
    if isinstance(table, HubSource):
        folder = Path(table.path).expanduser()
        on_hub = not folder.exists() and bool(_ON_HUB.fullmatch(table.path))
        return TableName(table.path if on_hub else folder.name, on_hub)
    if isinstance(table, ClientFiles):
        return TableName(f"{PurePath(table.pattern).name}, a file of each client")
    if isinstance(table, Mapping):
        return TableName("a table of each client")
    path = getattr(table, "path", None)
    if isinstance(path, str | Path):
        return TableName(PurePath(path).name)
    if type(table).__module__.startswith("datasets."):
        return TableName("a table given in Python")
    return TableName(type(table).__name__)


def table_names(tables: Mapping[str, Any]) -> dict[str, TableName]:
    """What tables are called, by what they are for; several tests by their names.

    Args:
        tables: By ``train``, ``validation``, ``public`` and ``test``; None where there is none.

    >>> tests = {"near": HubSource("owner/near"), "far": HubSource("owner/far")}
    >>> [*table_names({"train": HubSource("owner/rows"), "public": None, "test": tests})]
    ['train', 'near', 'far']
    """
    found: dict[str, TableName] = {}
    for use, table in tables.items():
        if use == "test" and isinstance(table, Mapping):
            found |= {name: table_name(one) for name, one in table.items()}
        elif table is not None:
            found[use] = table_name(table)
    return found
