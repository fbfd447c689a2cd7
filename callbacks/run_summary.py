"""What came out of a run, on the screen and as JSON."""

from __future__ import annotations

import json
import math
import platform
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from lightning.fabric.loggers import TensorBoardLogger

from lit_fed.atomic_files import write_file
from lit_fed.callbacks.byte_size import byte_size
from lit_fed.callbacks.client_metrics import LOWER_IS_BETTER, worst_clients
from lit_fed.callbacks.federated_callback import FederatedCallback
from lit_fed.callbacks.run_facts import attached, installed, privacy_spent, server_epsilon
from lit_fed.federation.run.checkpoint import best_round, last_checkpoint
from lit_fed.machine import machine
from lit_fed.standard_output import console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule
    from lit_fed.update import Update

_PACKAGES = ("lit_fed", "torch", "lightning", "transformers", "peft", "datasets", "torchmetrics")
# The tab of the layout; TensorBoard itself opens on another one.
# Curves of few rounds are shown as they are, and not smoothed.
CURVES_ADDRESS: Final = "http://localhost:6006/#custom_scalars&_smoothingWeight=0"
_LONGEST_NAME = 40
_SAVED: Final = "server/bytes_saved"
# of the run's identity, what is too large for any setting to tell
_DIGEST = re.compile(r"\.(frozen weights|tokenizer)$|^data\.(train|validation|public|test\..*)$")
_CLIENT_MEAN = re.compile(r"clients/(.+)/mean")
_OF_A_MODEL: Final = {"val", "test", "groups", "task", "shift", "index", "backdoor"}
_ACCURACY: Final = re.compile(r"accuracy(/mean)?$")


def metrics_table(
    history: Sequence[Mapping[str, float]],
    test: Mapping[str, float] | None = None,
    evaluated: str = "test",
) -> Table:
    """Set each metric's first, best and last round beside its test value.

    Args:
        history: One row a round. Shown are the global metrics and the clients' means; the best of a
            loss, an error or a perplexity is the smallest value, of an accuracy and of what else is told of a model's
            predictions the largest. Anything else, such as a term of the loss, a share of labels or ε, has no best.
        test: Metrics of the final model, such as ``test/accuracy``, or ``test/accuracy/<set>`` of a
            further test set, which has a row of its own.
        evaluated: What ``test`` holds; the head of its column.

    Example:
        >>> table = metrics_table([{"val/f1": 0.5}, {"val/f1": 0.75}], {"test/f1": 0.625})
        >>> [list(column.cells)[0] for column in table.columns]
        ['val/f1', '0.5000', '0.7500 (round 2)', '0.7500', '0.6250']
    """
    from rich.table import Table

    table = Table(title="Result", title_justify="left")
    table.add_column("metric", overflow="fold")
    rounds = ("first round", "best", "last") if history else ()
    for title in (*rounds, evaluated):
        table.add_column(title, justify="right")
    test = dict(test or {})
    for name in dict.fromkeys(name for row in history for name in row if _is_shown(name)):
        values = [row[name] for row in history if name in row]
        mode = _mode(name)
        best = None if mode is None else best_round(history, name, mode)
        table.add_row(
            _CLIENT_MEAN.sub(r"\1 (clients' mean)", name),
            f"{values[0]:.4f}",
            "–" if best is None else f"{history[best - 1][name]:.4f} (round {best})",
            f"{values[-1]:.4f}",
            _cell(test.pop(name.replace("val/", "test/", 1), None) if "val/" in name else None),
        )
    for name, value in test.items():
        if _is_shown(name):
            table.add_row(
                _CLIENT_MEAN.sub(r"\1 (clients' mean)", name), *[""] * len(rounds), _cell(value)
            )
    return table


def _poisoned(told: Mapping[str, Any]) -> str:
    count = told.get("poisoned_rows", told.get("corrupted_rows"))
    return "" if count is None else f" ({count:,} rows)"


def _phases(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Seconds of each phase of the rounds, in all of them."""
    names = dict.fromkeys(name for row in history for name in row if name.startswith("time/"))
    return {
        name.removeprefix("time/"): sum(row.get(name, 0.0) for row in history)
        for name in names
        if name != "time/round"
    }


def _saved(history: Sequence[Mapping[str, float]]) -> dict[str, int]:
    """Bytes that the server reports as saved, in all rounds; nothing where it reports none."""
    saved = [row[_SAVED] for row in history if _SAVED in row]
    return {"saved": int(sum(saved))} if saved else {}


def _privacy(trainer: FederationView) -> dict[str, Any] | None:
    """What clients have spent of their privacy by training and by what they sent; None where nothing counts it."""
    sent = server_epsilon(trainer.federation.history)
    spent = privacy_spent(trainer)
    return spent if sent is None else {**(spent or {}), "server_epsilon": sent}


def _clients(names: Sequence[str] | None) -> str:
    return "all clients" if names is None else ", ".join(map(_short, names))


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _is_shown(name: str) -> bool:
    head = name.partition("/")[0]
    if name.endswith("/error"):
        return False  # of an index, which has its own row
    if head == "groups":
        return name.endswith("/mean")
    return _CLIENT_MEAN.fullmatch(name) is not None or (
        "/" in name and head not in {"bytes", "clients", "energy", "memory", "time"}
    )


def _mode(name: str) -> Literal["min", "max"] | None:
    """Which of a metric's values is the best; None where none is."""
    if LOWER_IS_BETTER.search(name):
        return "min"
    own = _CLIENT_MEAN.sub(r"\1", name)
    is_of_model = own.partition("/")[0] in _OF_A_MODEL
    return "max" if is_of_model or _ACCURACY.search(own) else None


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


class RunSummary(FederatedCallback):
    """Ends a fit with a table of its results, and writes them to ``summary.json``.

    The file holds the metrics of the last round and of the test, bytes, seconds, failures, seed, the machine, digests
    of models and rows, what was attached to clients' rounds, such as an attack, and to whom, what clients have spent of
    their privacy by DP-SGD and, as ``server_epsilon``, by what they sent, such as answers with noise, and the versions
    of what ran. Where the server reports bytes that were saved, ``saved`` of the bytes is their sum. A run that Ctrl-C
    broke off is summed up as well, up to its last finished round; one that an error broke off is not. What is no finite
    number is null.

    Args:
        quiet: Whether it prints nothing, and writes its file all the same: among the trainer's callbacks, such a one
            takes the default's place.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console: Console | None = None
        self._started = 0.0
        self._ended = False
        self._clients: dict[str, dict[str, float]] = {}
        self._loaded: dict[str, dict[str, float]] = {}

    def state_dict(self) -> dict[str, Any]:
        """What each client has reported last."""
        return dict(self._clients)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave, at the start of the fit."""
        self._loaded = state_dict

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self._ended = False
        self._clients, self._loaded = dict(self._loaded), {}

    def on_aggregate_end(
        self, trainer: FederationView, module: FederatedModule, updates: Sequence[Update]
    ) -> None:
        """Keep what each client has reported last."""
        for update in updates:
            self._clients[update.client_id] = {k: float(v) for k, v in update.metrics.items()}

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Remember that there is something to sum up."""
        self._ended = True

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        """Sum an interrupted run up as well."""
        self._ended = isinstance(exception, KeyboardInterrupt)

    def teardown(self, trainer: Any, module: Any, stage: str) -> None:
        """Write and print the summary, when every other callback has done its part."""
        if stage != "fit" or not self._ended or not trainer.is_global_zero:
            return
        self._ended = False
        seconds = time.perf_counter() - self._started
        folder = self.run_folder(trainer)
        if folder is not None:
            told = _finite(self._summary(trainer, module, seconds))
            text = json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False)
            write_file(folder / "summary.json", text + "\n")
        if not self.quiet:
            self._print(trainer, module, folder, seconds)

    def _summary(
        self, trainer: FederationView, module: FederatedModule, seconds: float
    ) -> dict[str, Any]:
        state = trainer.federation
        metrics = {**(state.history[-1] if state.history else {}), **trainer.final_metrics}
        return {
            "method": type(module).__name__,
            "rounds": state.round,
            "interrupted": trainer.interrupted,
            "metrics": {
                name: value
                for name, value in metrics.items()
                if name != "round" and name.partition("/")[0] not in {"bytes", "energy", "time"}
            },
            "bytes": {
                "up": state.ledger.up,
                "down": state.ledger.down,
                "total": state.ledger.up + state.ledger.down,
                **_saved(state.history),
            },
            "seconds": {
                "rounds": sum(row.get("time/round", 0.0) for row in state.history),
                "process": seconds,
                "phases": _phases(state.history),
            },
            "failures": state.failures,
            "worst_clients": self._worst(),
            "changes": state.changes,
            "attachments": attached(trainer.identity, trainer.attachments),
            "privacy": _privacy(trainer),
            **self._of_callbacks(trainer),
            "seed": trainer.seed,
            "machine": machine(),
            "digests": {
                name: value for name, value in trainer.identity.items() if _DIGEST.search(name)
            },
            "versions": {
                "python": platform.python_version(),
                **{package: installed(package) for package in _PACKAGES},
            },
        }

    @staticmethod
    def _of_callbacks(trainer: FederationView) -> dict[str, Any]:
        """What other callbacks sum up."""
        told: dict[str, Any] = {}
        for callback in trainer.callbacks:
            if isinstance(callback, FederatedCallback):
                told |= callback.summarised(trainer)
        return told

    def _worst(self) -> dict[str, Any] | None:
        """The three clients that did worst when they last took part."""
        if (worst := worst_clients(self._clients)) is None:
            return None
        name, values = worst
        return {"metric": name, "clients": values}

    def _print(
        self, trainer: FederationView, module: Any, folder: Path | None, seconds: float
    ) -> None:
        if self.console is None:
            self.console = console()
        state = trainer.federation
        if not state.history:
            return
        self.console.print(metrics_table(state.history, trainer.final_metrics))
        total = sum(row.get("time/round", 0.0) for row in state.history)
        lines = {
            "bytes": f"{byte_size(state.ledger.up)} up, {byte_size(state.ledger.down)} down",
            "time": f"{total:.1f} s in {state.round} rounds, {seconds:.1f} s in this process",
            "failures": ", ".join(f"{name}: {n}" for name, n in state.failures.items()) or "none",
        }
        if found := attached(trainer.identity, trainer.attachments):
            lines["attached"] = ", ".join(
                f"{one['class']} to {_clients(one.get('clients'))}{_poisoned(one)}" for one in found
            )
        if boxes := _black_boxes(trainer, module):
            lines["black boxes"] = (
                f"{', '.join(map(_short, boxes))}: in the clients' means of tests, and not of validations"
            )
        if (spent := privacy_spent(trainer)) is not None:
            lines["privacy"] = (
                f"ε {spent['most']:.3g} at most at δ {spent['delta']:g}, of single rows, in "
                f"{len(spent['epsilon'])} clients"
            )
        if (sent := server_epsilon(state.history)) is not None:
            lines["sent"] = f"ε {sent:.3g} of all that a client has sent (server/epsilon)"
        if (worst := worst_clients(self._clients)) is not None:
            names = ", ".join(f"{_short(client)} {value:.4f}" for client, value in worst[1].items())
            lines["worst"] = f"{worst[0]} of clients: {names}"
        boards = [one.log_dir for one in trainer.loggers if isinstance(one, TensorBoardLogger)]
        if boards:
            lines["TensorBoard"] = (
                f"tensorboard --logdir {boards[0].rstrip('/')}  (curves: {CURVES_ADDRESS})"
            )
        if folder is not None:
            lines["checkpoint"] = str(last_checkpoint(folder) or "none")
            lines["adapter"] = str(folder / "adapter") if (folder / "adapter").is_dir() else "none"
        for name, text in lines.items():
            # Paths are copied from here, so they are neither wrapped nor coloured.
            self.console.print(f"{name:<12} {text}", soft_wrap=True, markup=False, highlight=False)
        for callback in trainer.callbacks:
            table = (
                callback.closing_table(trainer) if isinstance(callback, FederatedCallback) else None
            )
            if table is not None:
                self.console.print(table)


def _black_boxes(trainer: FederationView, module: Any) -> list[str]:
    """The clients that answer and train nothing: tests ask them, and validations in the rounds do not."""
    trains = getattr(getattr(module, "models", None), "trains", None)
    if trains is None:
        return []
    return [client.id for client in trainer.datamodule.clients if not trains(client.id)]


def _finite(value: Any) -> Any:
    """The same with null in place of numbers that JSON does not have: NaN, and an ε that nothing bounds.

    Example:
        >>> _finite({"loss": float("nan"), "epsilon": {"a": float("inf"), "b": 2.0}, "rounds": [1]})
        {'loss': None, 'epsilon': {'a': None, 'b': 2.0}, 'rounds': [1]}
    """
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
