"""Client groups: clients whose figures are reported together, beside those of all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from lit_fed.data.client_data import ClientData

OTHERS: Final = "others"
"""The group of the clients that no group names."""
_METRICS: Final = frozenset({OTHERS, "train", "val", "test", "predict"})


def require_groups(groups: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Groups whose names can be parts of metrics' names, and that share no client.

    Args:
        groups: The clients' names by that of their group, as ``data.client_groups`` gives them.

    Raises:
        ValueError: If a group has no client or another kind of name, or a client is in two groups.

    Example:
        >>> require_groups({"test": ["client-0"]})
        Traceback (most recent call last):
        ValueError: `data.client_groups` is expected to have names of letters, digits and _, none of them one of \
others, predict, test, train, val, but got 'test'
    """
    taken: dict[str, str] = {}
    for name, clients in groups.items():
        if not re.fullmatch(r"\w+", name) or name in _METRICS:
            raise ValueError(
                f"`data.client_groups` is expected to have names of letters, digits and _, none of them one of "
                f"{', '.join(sorted(_METRICS))}, but got {name!r}"
            )
        if not clients:
            raise ValueError(
                f"`data.client_groups` is expected to name clients, but {name!r} has none"
            )
        for client in clients:
            if client in taken:
                raise ValueError(
                    f"`data.client_groups` is expected to have each client once, but {client!r} is in "
                    f"{taken[client]!r} and {name!r}"
                )
            taken[client] = name
    return groups


def grouped(clients: Sequence[ClientData], groups: Mapping[str, Sequence[str]]) -> list[ClientData]:
    """The clients, each with its group; where there are any, those that none names are ``others``.

    Args:
        clients: The clients.
        groups: Their names by that of their group.

    Raises:
        ValueError: If a group names a client that there is not.
    """
    if not groups:
        return list(clients)
    of = {client: name for name, members in groups.items() for client in members}
    if unknown := of.keys() - {client.id for client in clients}:
        raise ValueError(
            f"`data.client_groups` is expected to name clients, which are {', '.join(c.id for c in clients)}, "
            f"but names {min(unknown)!r}"
        )
    return [replace(client, group=of.get(client.id, OTHERS)) for client in clients]
