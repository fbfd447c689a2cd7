"""The clients' own metrics: a table in a file and in TensorBoard, and who does worst."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lit_fed.atomic_files import write_file
from lit_fed.callbacks.curves import tensorboard_writers
from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.limits import require_at_least

if TYPE_CHECKING:
    from pathlib import Path

    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule
    from lit_fed.update import Update

LOWER_IS_BETTER: Final = re.compile(r"(loss|perplexity|error|nll|cross_entropy|mse|mae)\b")
"""Names of metrics of which the smallest value is the best."""

_FIRST: Final = ("round", "client", "rows", "bytes/up")


def worst_clients(
    metrics: Mapping[str, Mapping[str, float]], most: int = 3
) -> tuple[str, dict[str, float]] | None:
    """The clients that do worst, the worst first.

    Args:
        metrics: Metrics by client. Taken is the first of ``val/accuracy``, any other of ``val/`` and ``train/loss``
            that two clients or more report.
        most: How many clients.

    Returns:
        The metric and its values by client; None where there is none to compare by.

    Example:
        >>> worst_clients({"a": {"val/f1": 0.5}, "b": {"val/f1": 0.25}, "c": {"train/loss": 1.0}}, most=1)
        ('val/f1', {'b': 0.25})
    """
    names = dict.fromkeys(name for row in metrics.values() for name in row)
    wanted = ["val/accuracy", *(n for n in names if n.startswith("val/")), "train/loss"]
    for name in wanted:
        values = {client: row[name] for client, row in metrics.items() if name in row}
        if len(values) < 2:
            continue
        largest_first = LOWER_IS_BETTER.search(name) is not None
        told = [c for c in values if not math.isnan(values[c])]
        # what is no number is worse than any
        order = [c for c in values if math.isnan(values[c])]
        order += sorted(told, key=values.__getitem__, reverse=largest_first)
        return name, {client: values[client] for client in order[:most]}
    return None


class ClientMetrics(FederatedCallback):
    """Writes each client's metrics to ``clients.csv`` of the run's folder, and as a table to TensorBoard.

    The file has a row for each round and each client that has finished it: its rows, the bytes that it has sent
    and the metrics that it has reported, which are those of its training and, with
    ``trainer.validate_clients``, of its validation. Rows are added after each round; a run that goes on first takes
    those of later rounds away, so that its file equals that of a run that went through. TensorBoard
    has the round's table as a text, ``clients``, the worst first.

    Args:
        most_in_tensorboard: Clients in TensorBoard's table.

    Raises:
        ValueError: If ``most_in_tensorboard`` is negative.
    """

    def __init__(self, most_in_tensorboard: int = 50) -> None:
        self.most_in_tensorboard = require_at_least("most_in_tensorboard", most_in_tensorboard, 0)
        self._rows: list[dict[str, Any]] = []
        self._columns: list[str] = []

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Keep those rows of an earlier part of the run that belong to finished rounds."""
        self._rows, self._columns = [], []
        folder = self.run_folder(trainer)
        if folder is None or not (folder / "clients.csv").is_file():
            return
        with (folder / "clients.csv").open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            finished = trainer.federation.round
            kept = [
                row
                for row in reader
                if (row["round"] or "").isdigit() and int(row["round"]) <= finished
            ]
            self._columns = list(reader.fieldnames or ())
        self._write(folder, kept)

    def on_round_start(
        self, trainer: FederationView, module: FederatedModule, clients: Sequence[Any]
    ) -> None:
        """Forget the last round's clients."""
        self._rows = []

    def on_aggregate_end(
        self, trainer: FederationView, module: FederatedModule, updates: Sequence[Update]
    ) -> None:
        """Take the clients' metrics; they are written when the round is finished."""
        if trainer.is_global_zero:
            self._rows = [
                {"client": u.client_id, "rows": u.num_samples, "bytes/up": u.payload.nbytes}
                | {name: float(value) for name, value in u.metrics.items()}
                for u in updates
            ]

    def on_round_end(
        self, trainer: FederationView, module: FederatedModule, metrics: Mapping[str, float]
    ) -> None:
        """Write the round's rows."""
        number = trainer.federation.round
        rows = [{"round": number, **row} for row in self._rows]
        if (folder := self.run_folder(trainer)) is not None and rows:
            self._add(folder, rows)
        for writer in tensorboard_writers(trainer) if rows and self.most_in_tensorboard else ():
            writer.add_text("clients", self._markdown(rows), number)

    def _add(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        """Append rows; where they have new columns, write the file anew."""
        path = folder / "clients.csv"
        names = list(dict.fromkeys([*(self._columns or _FIRST), *(n for row in rows for n in row)]))
        if names == self._columns and path.is_file():
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write(_csv(rows, names, header=False))
            return
        before: list[dict[str, Any]] = []
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                before = list(csv.DictReader(file))
        self._columns = names
        self._write(folder, [*before, *rows])

    def _write(self, folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        write_file(folder / "clients.csv", _csv(rows, self._columns, header=True))

    def _markdown(self, rows: list[dict[str, Any]]) -> str:
        """The round's table, the worst first."""
        by_client = {row["client"]: row for row in rows}
        numbers = {
            name: {k: v for k, v in row.items() if isinstance(v, float)}
            for name, row in by_client.items()
        }
        worst = worst_clients(numbers, self.most_in_tensorboard)
        shown = list(worst[1] if worst else by_client)[: self.most_in_tensorboard]
        names = [n for n in dict.fromkeys(n for row in rows for n in row) if n != "round"]
        lines = [names, ["---"] * len(names)]
        lines += [[_cell(by_client[client].get(name, "")) for name in names] for client in shown]
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        left = len(rows) - len(shown)
        return f"{text}\n\nand {left} more" if left else text


def _csv(rows: Sequence[Mapping[str, Any]], names: Sequence[str], header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return str(value).replace("\\", "\\\\").replace("|", "\\|")
