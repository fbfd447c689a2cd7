"""The clients' own metrics: a table in a file and in TensorBoard, and who does worst."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lit_fed.atomic_files import flush, write_file
from lit_fed.callbacks.curves import tensorboard_writers
from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.callbacks.harmless_text import table_cell
from lit_fed.limits import require_at_least

if TYPE_CHECKING:
    from pathlib import Path

    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule
    from lit_fed.update import Update

LOWER_IS_BETTER: Final = re.compile(
    r"(loss|perplexity|error|nll|cross_entropy|mse|mae|asr|false_positives|false_rejections|\bPE)\b"
)
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
        self._round = self._written = 0
        self._columns: list[str] = []
        self._loaded: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """The rows of the last round, which may not have been written when the run is broken off."""
        return {"round": self._round, "rows": self._rows} if self._round else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave, at the start of the fit."""
        self._loaded = state_dict

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Keep those rows of an earlier part of the run that belong to finished rounds; add those that it lacks."""
        kept, self._loaded = self._loaded, {}
        self._rows, self._round = kept.get("rows", []), kept.get("round", 0)
        self._columns, self._written = [], 0
        folder, finished = self.run_folder(trainer), trainer.federation.round
        if folder is None:
            return
        # of the last finished round all rows are known, unless a later one had begun when the run was broken off
        known = self._round == finished > 0
        rows: list[dict[str, Any]] = []
        if (folder / "clients.csv").is_file():
            self._columns, found = _read(folder / "clients.csv")
            rows = [row for row in found if int(row["round"]) <= finished - known]
        if known:
            rows += [{"round": finished, **row} for row in self._rows]
            self._written = finished
        if rows or self._columns:
            self._columns = _columns(self._columns, rows)
            self._write(folder, rows)

    def on_round_start(
        self, trainer: FederationView, module: FederatedModule, clients: Sequence[Any]
    ) -> None:
        """Forget the last round's clients."""
        self._rows, self._round = [], trainer.current_round + 1

    def on_aggregate_end(
        self, trainer: FederationView, module: FederatedModule, updates: Sequence[Update]
    ) -> None:
        """Take the clients' metrics; they are written when the round is finished."""
        if trainer.is_global_zero:
            self._rows = [
                {"client": u.client_id, "rows": u.num_samples, "bytes/up": u.nbytes}
                | {name: float(value) for name, value in u.metrics.items()}
                for u in updates
            ]

    def on_round_report(
        self, trainer: FederationView, module: FederatedModule, metrics: Mapping[str, float]
    ) -> None:
        """Write the round's rows."""
        number = trainer.federation.round
        rows = [{"round": number, **row} for row in self._rows] if self._round == number else []
        folder = self.run_folder(trainer)
        if folder is not None and rows and self._written != number:
            self._add(folder, rows)
            self._written = number
        for writer in tensorboard_writers(trainer) if rows and self.most_in_tensorboard else ():
            writer.add_text("clients", self._markdown(rows), number)

    def _add(self, folder: Path, rows: list[dict[str, Any]]) -> None:
        """Append rows; where they have new columns, write the file anew."""
        path = folder / "clients.csv"
        names = _columns(self._columns, rows)
        if names == self._columns and path.is_file():
            with path.open("a", encoding="utf-8", newline="") as file:
                file.write(_csv(rows, names, header=False))
            flush(path)  # the checkpoint that comes next says that it has been written
            return
        before = _read(path)[1] if path.is_file() else []
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
        lines = [[table_cell(name) for name in names], ["---"] * len(names)]
        lines += [[_cell(by_client[client].get(name, "")) for name in names] for client in shown]
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        left = len(rows) - len(shown)
        return f"{text}\n\nand {left} more" if left else text


def _columns(known: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys([*(known or _FIRST), *(name for row in rows for name in row)]))


def _read(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns and the rows of a file, without one that was being written when the process was killed."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = [row for row in reader if None not in row.values() and row["round"].isdigit()]
        return list(reader.fieldnames or ()), rows


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
    return table_cell(str(value))
