"""A checkpoint per round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal

from lit_fed.atomic_files import remove_folder, write_file
from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.checkpoint_files import best_record
from lit_fed.federation.run.checkpoint import best_round, checkpoints
from lit_fed.limits import require_at_least, require_none_or_at_least

if TYPE_CHECKING:
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule
    from lit_fed.update import Update


class RoundCheckpoint(FederatedCallback):
    """Saves the federation's whole state to ``checkpoints/round=<finished rounds>`` of the run.

    It is written while the next round's first client trains, and is there when that client has
    finished; so a run that is killed loses what it has done since the last round or, in that while, the
    round before. The last round is always saved, also when the run is broken off by Ctrl-C or an error:
    what was finished is never lost. With ``monitor``, ``checkpoints/best.json`` names the best checkpoint.

    Args:
        every_n_rounds: Save after each n-th round.
        keep_last: How many of the newest checkpoints stay; None keeps all.
        monitor: Metric of the history, such as ``val/accuracy``, by which a checkpoint is best.
        mode: Whether the largest (``max``) or the smallest (``min``) value is best.
        save_best: Whether the best round is saved even if it is no n-th one, and is never deleted.
            Has no effect without ``monitor``.

    Attributes:
        best_path: The best checkpoint so far, or None.
        best_score: Its metric, or None.

    Raises:
        ValueError: If ``every_n_rounds`` or ``keep_last`` is below 1, or ``mode`` is another word;
            after the first validated round if ``monitor`` is not among its metrics.
    """

    def __init__(
        self,
        every_n_rounds: int = 1,
        keep_last: int | None = 2,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "max",
        save_best: bool = True,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"`mode` is expected to be 'min' or 'max', but got {mode!r}")
        self.every_n_rounds = require_at_least("every_n_rounds", every_n_rounds, 1)
        self.keep_last = require_none_or_at_least("keep_last", keep_last, 1)
        self.monitor = monitor
        self.mode: Literal["min", "max"] = mode
        self.save_best = save_best
        self.best_path: Path | None = None
        self.best_score: float | None = None
        self._saved: int | None = None
        self._writing: Thread | None = None
        self._error: BaseException | None = None

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Remember which rounds a checkpoint holds already, and end what a killed run had begun."""
        self._saved = trainer.federation.round
        run = self.run_folder(trainer)
        # what a killed run has not come to after its last checkpoint
        if run is not None and max(checkpoints(run), default=0) == self._saved > 0:
            self._record_best(trainer.federation.history, run / "checkpoints")
            self._prune(run / "checkpoints")

    def on_client_end(
        self, trainer: FederationView, module: FederatedModule, update: Update
    ) -> None:
        """Wait until the last round is on disk."""
        self.wait()

    def wait(self) -> None:
        """Wait until what was given to be written is on disk.

        Raises:
            OSError: If it could not be written.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def on_round_end(
        self, trainer: FederationView, module: FederatedModule, metrics: Mapping[str, float]
    ) -> None:
        """Save the round if it is its turn or the best so far, and delete what is not kept."""
        finished = trainer.federation.round
        if (
            finished % self.every_n_rounds == 0
            or finished >= trainer.max_rounds
            or (self.save_best and finished == self._best_round(trainer))
        ):
            self._save(trainer)
        self._check_monitor(metrics)

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Save the last finished round, where an early stop came between."""
        self._save(trainer)
        self.wait()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Save the last finished round before the run ends."""
        if exception is self._error:
            return
        self._save(trainer)
        self.wait()

    def _best_round(self, trainer: FederationView) -> int | None:
        if self.monitor is None:
            return None
        return best_round(trainer.federation.history, self.monitor, self.mode)

    def _save(self, trainer: FederationView) -> None:
        # None outside a fit, where an exception may strike as well.
        run = self.run_folder(trainer)
        if self._saved is None or run is None or trainer.federation.round <= self._saved:
            return
        finished, folder = trainer.federation.round, run / "checkpoints"
        self.wait()
        write = trainer.checkpoint_writer(folder / f"round={finished:04d}")
        history = trainer.federation.history

        def save() -> None:
            try:
                write()
                self._replace_later(folder, finished)
                self._record_best(history, folder)
                self._prune(folder)
            except BaseException as error:  # raised in the run's own thread by wait()
                self._error = error

        self._saved = finished
        self._writing = Thread(target=save, name="checkpoint")
        self._writing.start()

    @staticmethod
    def _replace_later(folder: Path, finished: int) -> None:
        # A run that went on from an earlier round replaces what came after it: left there, those
        # rounds would be taken for the last ones.
        for number, later in checkpoints(folder).items():
            if number > finished:
                remove_folder(later)

    def _record_best(self, history: Sequence[Mapping[str, float]], folder: Path) -> None:
        if self.monitor is None:
            return
        saved = checkpoints(folder)
        rows = [row if n in saved else {} for n, row in enumerate(history, start=1)]
        best = best_round(rows, self.monitor, self.mode)
        if best is None:
            return
        self.best_path, self.best_score = saved[best], history[best - 1][self.monitor]
        record = best_record(self.best_path, self.monitor, self.mode, self.best_score)
        write_file(folder / "best.json", record)

    def _prune(self, folder: Path) -> None:
        if self.keep_last is None:
            return
        for path in list(checkpoints(folder).values())[: -self.keep_last]:
            if not (self.save_best and path == self.best_path):
                remove_folder(path)

    def _check_monitor(self, metrics: Mapping[str, float]) -> None:
        if self.monitor is None or self.monitor in metrics:
            return
        prefix = self.monitor.partition("/")[0] + "/"
        if any(name.startswith(prefix) for name in metrics):
            raise ValueError(
                f"`monitor` of RoundCheckpoint is expected to be one of {sorted(metrics)}, "
                f"but got {self.monitor!r}"
            )
