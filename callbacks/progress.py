"""What a run is doing, on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lit_fed.callbacks.byte_size import byte_size
from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.federation.plausibility import ImplausibleUpdate
from lit_fed.limits import require_positive

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from lit_fed.client import Client
    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule
    from lit_fed.payload import Payload
    from lit_fed.update import Update


def round_line(metrics: Mapping[str, float], monitor: str | None = None) -> str:
    """Say in one line how a round went: loss, validation, bytes, failures and seconds.

    Args:
        metrics: The round's row of the history; what it does not hold is left out.
        monitor: The validation metric to show; by default ``val/accuracy``, or else the first one
            of ``val/``.

    Example:
        >>> round_line({"train/loss": 0.5, "val/accuracy": 0.75, "bytes/up": 96, "bytes/down": 1e6})
        'loss 0.5000  val/accuracy 0.7500  up 96 B  down 1.0 MB'
    """
    words = []
    loss = metrics.get("train/loss", metrics.get("clients/train/loss/mean"))
    if loss is not None:
        words.append(f"loss {loss:.4f}")
    if name := monitor or _validation_metric(metrics):
        words.append(f"{name} {metrics[name]:.4f}" if name in metrics else f"{name} –")
    for direction in ("up", "down"):
        if (count := metrics.get(f"bytes/{direction}")) is not None:
            words.append(f"{direction} {byte_size(count)}")
    if failed := metrics.get("clients/failed"):
        words.append(f"failed {failed:.0f}")
    if (seconds := metrics.get("time/round")) is not None:
        words.append(f"{seconds:.1f} s")
    return "  ".join(words)


def _validation_metric(metrics: Mapping[str, float]) -> str | None:
    if "val/accuracy" in metrics:
        return "val/accuracy"
    return next((name for name in metrics if name.startswith("val/")), None)


class RoundProgressBar(FederatedCallback):
    """A bar for the rounds, one for the clients of the round under way, and how it goes.

    On a terminal two bars stay in place at the bottom, with the running loss, the last validation
    and the bytes of the whole run. Elsewhere, as in a log file or a notebook, which would keep the last
    picture of a bar alone, each finished round is one line.

    Args:
        monitor: The validation metric to show; by default ``val/accuracy``, or else the first one.
        refresh_rate: Screen updates per second; the running loss is read from the device as often.

    Raises:
        ValueError: If ``refresh_rate`` is not above 0.
    """

    def __init__(self, monitor: str | None = None, refresh_rate: float = 4.0) -> None:
        self.monitor = monitor
        self.refresh_rate = require_positive("refresh_rate", refresh_rate)
        self.console: Console | None = None
        self._progress: Progress | None = None
        self._rounds: TaskID | None = None
        self._clients: TaskID | None = None
        self._next_loss = 0.0
        self._up = self._down = 0.0

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Take over the bytes of the rounds before a resumed run."""
        history = trainer.federation.history
        self._up = sum(row.get("bytes/up", 0.0) for row in history)
        self._down = sum(row.get("bytes/down", 0.0) for row in history)

    def on_client_prepared(
        self, trainer: FederationView, module: FederatedModule, client: Client, prepared: Payload
    ) -> None:
        """Count a client that has prepared, and show how much stays with it."""
        if not trainer.is_global_zero:
            return
        if self._progress is None:
            self._start(trainer)
        status = f"{client.id}  {byte_size(prepared.nbytes)}"
        if self._progress is not None and self._clients is not None:
            total = len(trainer.datamodule.clients)
            self._progress.update(
                self._clients, advance=1, total=total, description="prepare", status=status
            )
        else:
            print(f"prepared {status}", flush=True)

    def on_round_start(
        self, trainer: FederationView, module: FederatedModule, clients: Sequence[Client]
    ) -> None:
        """Show the bars, and empty that of the clients."""
        if not trainer.is_global_zero:
            return
        if self._progress is None:
            self._start(trainer)
        if self._progress is not None and self._clients is not None:
            self._progress.reset(
                self._clients, total=len(clients), description="clients", status=""
            )

    def on_client_start(
        self, trainer: FederationView, module: FederatedModule, client: Client
    ) -> None:
        """Name the client."""
        if self._progress is not None and self._clients is not None:
            self._progress.update(self._clients, status=client.id)

    def on_train_batch_end(
        self,
        trainer: Any,
        module: Any,
        outputs: Any,
        batch: Mapping[str, Tensor],
        batch_idx: int,
    ) -> None:
        """Show the loss, as seldom as the screen: reading it waits for the device."""
        if self._progress is None or self._clients is None or time.monotonic() < self._next_loss:
            return
        self._next_loss = time.monotonic() + 1 / self.refresh_rate
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor) and loss.numel() == 1:
            status = f"{module.client.id}  loss {float(loss.detach()):.4f}"
            self._progress.update(self._clients, status=status)

    def on_client_end(
        self, trainer: FederationView, module: FederatedModule, update: Update
    ) -> None:
        """Count the client."""
        if self._progress is not None and self._clients is not None:
            self._progress.advance(self._clients)

    def on_client_failed(
        self,
        trainer: FederationView,
        module: FederatedModule,
        client: Client,
        error: BaseException,
    ) -> None:
        """Count the client, as failed; one whose update is not believed has been counted when it ended."""
        if self._progress is not None and self._clients is not None:
            counted = isinstance(error, ImplausibleUpdate)
            self._progress.update(
                self._clients, advance=0 if counted else 1, status=f"{client.id} failed"
            )

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        """Say that the global model is validated."""
        if self._progress is not None and self._clients is not None:
            self._progress.update(self._clients, status="validation")

    def on_round_end(
        self, trainer: FederationView, module: FederatedModule, metrics: Mapping[str, float]
    ) -> None:
        """Count the round and show how it went."""
        if not trainer.is_global_zero:
            return
        self._up += metrics.get("bytes/up", 0.0)
        self._down += metrics.get("bytes/down", 0.0)
        if self._progress is not None and self._rounds is not None:
            total = {**metrics, "bytes/up": self._up, "bytes/down": self._down}
            total.pop("time/round", None)
            self._progress.update(
                self._rounds,
                completed=trainer.federation.round,
                status=round_line(total, self.monitor),
            )
        else:
            line = round_line(metrics, self.monitor)
            print(f"round {trainer.federation.round}/{trainer.max_rounds}  {line}", flush=True)

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Leave the finished bars on the screen."""
        self._stop()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Give the screen back, with the cursor shown."""
        self._stop()

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        """Give the screen back, however the run ended."""
        self._stop()

    def _start(self, trainer: FederationView) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.table import Column

        # colours may be asked for where there is no terminal, as in many a log of continuous integration
        screen = None if sys.stdout.isatty() else False
        self.console = self.console or Console(force_interactive=screen)
        if self.console.is_jupyter or not self.console.is_interactive:
            return
        self._progress = Progress(
            TextColumn("{task.description:<7}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            # A status that wrapped would make the bars jump, and a longer one would squeeze them.
            TextColumn(
                "{task.fields[status]}",
                markup=False,
                table_column=Column(
                    no_wrap=True, overflow="ellipsis", max_width=max(20, self.console.width - 40)
                ),
            ),
            console=self.console,
            refresh_per_second=self.refresh_rate,
        )
        self._rounds = self._progress.add_task(
            "rounds", total=trainer.max_rounds, completed=trainer.federation.round, status=""
        )
        self._clients = self._progress.add_task("clients", total=None, status="")
        self._progress.start()

    def _stop(self) -> None:
        if self._progress is not None:
            if self._clients is not None:
                self._progress.remove_task(self._clients)
            self._progress.stop()
        self._progress = self._rounds = self._clients = None
