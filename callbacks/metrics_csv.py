"""The rounds' metrics as a table for a spreadsheet or pandas."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lit_fed.atomic_files import write_file
from lit_fed.callbacks.federated_callback import FederatedCallback

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


def history_csv(history: Sequence[Mapping[str, float]]) -> str:
    """Write rows of metrics as CSV, one row a round.

    Args:
        history: The rows. Columns stand in the order in which they first appear; a metric that a
            row does not have is an empty cell.

    Example:
        >>> print(history_csv([{"round": 1, "val/loss": 1.5}, {"round": 2, "val/f1": 0.25}]))
        round,val/loss,val/f1
        1,1.5,
        2,,0.25
        <BLANKLINE>
    """
    columns = dict.fromkeys(name for row in history for name in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


class MetricsCSV(FederatedCallback):
    """Writes ``metrics.csv`` of the run's folder anew when a fit starts and after each round, from its history.

    Because the history is part of a checkpoint, the file of a run that was broken off and resumed
    equals that of one that went through.
    """

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Write the rows of the rounds that an earlier part of the run has finished."""
        if trainer.federation.history:
            self._write(trainer)

    def on_round_report(
        self, trainer: FederationView, module: FederatedModule, metrics: Mapping[str, float]
    ) -> None:
        """Write the rows of all finished rounds."""
        self._write(trainer)

    def _write(self, trainer: FederationView) -> None:
        if (folder := self.run_folder(trainer)) is not None:
            write_file(folder / "metrics.csv", history_csv(trainer.federation.history))
