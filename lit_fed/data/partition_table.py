"""Who holds what, to print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lit_fed.data.client_data import ClientData
from lit_fed.data.columns import in_written_order, written_values

if TYPE_CHECKING:
    from rich.table import Table

_MOST_LABELS = 12


def partition_table(
    clients: Sequence[ClientData], label: str | None, max_clients: int = 32
) -> Table:
    """A table of clients, their rows and their rows of each label.

    Args:
        clients: The clients.
        label: The column of labels. None: rows are counted only.
        max_clients: Clients that are shown; the last line sums up all of them.

    >>> from datasets import Dataset
    >>> from rich import print
    >>> print(partition_table([ClientData("client-0", Dataset.from_dict({"label": [1, 0, 1]}))], "label"))
    ┏━━━━━━━━━━┳━━━━━━┳━━━━━━━━━┳━━━━━━━━━┓
    ┃ client   ┃ rows ┃ label 0 ┃ label 1 ┃
    ┡━━━━━━━━━━╇━━━━━━╇━━━━━━━━━╇━━━━━━━━━┩
    │ client-0 │    3 │       1 │       2 │
    ├──────────┼──────┼─────────┼─────────┤
    │ all 1    │    3 │       1 │       2 │
    └──────────┴──────┴─────────┴─────────┘
    """
    from rich.markup import escape
    from rich.table import Table

    counts: list[Counter[Any]] = [
        Counter(written_values(client.rows, label, "data.encoding.label") if label else [])
        for client in clients
    ]
    total = sum(counts, Counter[Any]())
    # some may be missing
    labels: list[str | None] = [*in_written_order(value for value in total if value is not None)]
    labels += [None] if None in total else []
    shown = labels if len(labels) <= _MOST_LABELS else []
    held_out = any(client.validation is not None for client in clients)
    table = Table()
    table.add_column("client")
    table.add_column("rows", justify="right")
    if held_out:
        table.add_column("held out", justify="right")
    for value in shown:
        table.add_column(escape(f"{label} {value}"), justify="right")
    if labels and not shown:
        table.add_column(escape(f"distinct {label}"), justify="right")

    def line(name: str, rows: int, held: int, count: Counter[Any]) -> list[str]:
        cells = [name, f"{rows:,}"]
        if held_out:
            cells.append(f"{held:,}")
        cells += [f"{count[value]:,}" for value in shown]
        if labels and not shown:
            cells.append(f"{len(count):,}")
        return cells

    held = [len(client.validation or ()) for client in clients]
    for client, rows, count in list(zip(clients, held, counts, strict=True))[:max_clients]:
        table.add_row(*line(escape(client.id), len(client.rows), rows, count))
    if len(clients) > max_clients:
        table.add_row(f"and {len(clients) - max_clients} more")
    table.add_section()
    rows_in_all = sum(len(client.rows) for client in clients)
    table.add_row(*line(f"all {len(clients)}", rows_in_all, sum(held), total))
    return table
