"""A run: its folder, identity, loggers and checkpoints."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.fabric.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.atomic_files import clear_leftovers, write_file
from lit_fed.client import Client
from lit_fed.digests import digest_of
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.run.checkpoint import load_checkpoint, save_checkpoint, saved_identity
from lit_fed.federation.run.client_state_store import ClientStateStore
from lit_fed.federation.run.identity import difference_lines, differences, refuse_differences
from lit_fed.federation.run.metric_names import named_for
from lit_fed.federation.state import FederationState
from lit_fed.payload import Payload


class Run:
    """The files of a run and what they are called by.

    Args:
        folder: The run's folder. None: it has none, and writes nothing.
        identity: What has to be the same for the run to go on bit for bit.
        client_state_mb: Megabytes (2²⁰ bytes) of memory for what stays with clients. None: no bound.

    Attributes:
        loggers: Where metrics go; none before :meth:`start_logging`.
    """

    def __init__(
        self, folder: Path | None, identity: Mapping[str, Any], client_state_mb: float | None = None
    ) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self.loggers: list[Logger] = []
        self._budget = None if client_state_mb is None else client_state_mb * 2**20

    # ---------------------------------------------------------------- metrics

    def start_logging(self, setting: bool | Logger | list[Logger], first_step: int) -> None:
        """Make the loggers; see :func:`run_loggers`."""
        self.loggers = [] if self.folder is None else run_loggers(setting, self.folder, first_step)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Give metrics to the loggers."""
        for logger in self.loggers:
            logger.log_metrics(named_for(logger, metrics), step=step)
            logger.save()  # as Lightning does; a CSV logger would lose a killed run's rounds

    def restore_logs(self, history: Sequence[Mapping[str, float]]) -> None:
        """Give all finished rounds to those loggers that begin a new file in every process: Lightning's CSVLogger.

        Args:
            history: One row a round.
        """
        for logger in self.loggers:
            if isinstance(logger, CSVLogger):
                # it has deleted the file of an earlier process, but not its own of an earlier fit
                if Path(logger.experiment.metrics_file_path).exists():
                    continue
                for step, row in enumerate(history, start=1):
                    logger.log_metrics(dict(row), step=step)

    def flush_logs(self) -> None:
        """Write out what the loggers still hold."""
        for logger in self.loggers:
            logger.save()

    def end_logging(self, status: str) -> None:
        """Close the loggers.

        Args:
            status: How the run ended, such as ``success``.
        """
        for logger in self.loggers:
            logger.finalize(status)

    # ---------------------------------------------------------------- states

    def load(
        self,
        path: Path,
        matters: Callable[[str], bool] = lambda name: True,
        with_changes: bool = False,
    ) -> FederationState:
        """Read a checkpoint.

        Args:
            path: Its folder.
            matters: Whether a part of the identity has to be the same. Default: each has.
            with_changes: Whether differences are meant; they are said, and become part of the state.

        Raises:
            FileNotFoundError: If there is no checkpoint.
            ValueError: If it is damaged, or of a run that differs.
        """
        before, complete = saved_identity(path)
        if not complete:
            rank_zero_warn(
                f"checkpoint {path} was written before checkpoints recorded their run's data and settings, "
                "which are taken to be the present ones"
            )
            before = self.identity | before
        changed = differences(before, self.identity, matters)
        lines = difference_lines(changed)
        if not with_changes:
            refuse_differences(path, lines)
        state = load_checkpoint(path, self.client_state_store())
        if lines:
            said = "; ".join(f"`{name}` {old} → {new}" for name, (old, new) in changed.items())
            rank_zero_warn(f"going on from {path} with changes: {said}")
        changes = [
            {"round": state.round, "setting": name, "before": old, "now": new}
            for name, (old, new) in changed.items()
        ]
        return replace(state, changes=[*state.changes, *changes])

    def checkpoint_writer(
        self, path: Path, state: FederationState, around: Callable[[str], Any]
    ) -> Callable[[], None]:
        """What writes a state to a folder when it is called, in whatever thread and however late.

        Args:
            path: The folder.
            state: The state, which is not changed any more.
            around: Counts the time, as :class:`~lit_fed.timers.Timers` do.
        """
        identity = dict(self.identity)

        def write() -> None:
            with around("checkpoint"):
                save_checkpoint(path, state, identity)

        return write

    def client_state_store(self, held: Iterable[ClientState] = ()) -> ClientStateStore:
        """Where clients' states are kept, of which some are held already."""
        return ClientStateStore(self._budget, self._state_folder, held)

    def clear_leftovers(self) -> None:
        """Remove clients' states and half-written files that a killed run has left in the run's folder."""
        shutil.rmtree(self._state_folder, ignore_errors=True)
        if self.folder is not None:
            for name in (".", "checkpoints", "prepared", "profile"):
                clear_leftovers(self.folder / name)

    @property
    def _state_folder(self) -> Path:
        if self.folder is not None:
            return self.folder / ".client_states"
        return Path(tempfile.gettempdir()) / f"lit_fed-{os.getpid()}"

    # ---------------------------------------------------------------- preparation

    def prepared(self, client: Client) -> Payload | None:
        """What a client has prepared before the run was broken off; None if it has not, or that is damaged."""
        path = self._prepared_path(client)
        if path is None or not path.is_file():
            return None
        data = path.read_bytes()
        digest, _, content = data.partition(b"\n")
        if digest.decode(errors="replace") != digest_of(content):
            rank_zero_warn(f"{path} is damaged: client {client.id!r} prepares once more")
            return None
        return Payload.from_bytes(content)

    def keep_prepared(self, client: Client, prepared: Payload) -> None:
        """Write what a client has prepared, whole or not at all, after a line with its digest."""
        path = self._prepared_path(client)
        if path is not None:
            content = prepared.to_bytes()
            write_file(path, digest_of(content).encode() + b"\n" + content)

    def clear_prepared(self) -> None:
        """Remove what clients had prepared: a checkpoint has it by now, or the run begins anew."""
        if self.folder is not None:
            shutil.rmtree(self.folder / "prepared", ignore_errors=True)

    def _prepared_path(self, client: Client) -> Path | None:
        if self.folder is None:
            return None
        # another run's rows or seed would have made something else of it, and so would another round's model
        digest = hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:16]
        name = f"client={client.index:04d}-round={client.round:04d}-{digest}.prepared"
        return self.folder / "prepared" / name


def run_loggers(
    setting: bool | Logger | list[Logger], folder: Path, first_step: int
) -> list[Logger]:
    """The loggers of a fit.

    Args:
        setting: ``trainer.loggers``: True for TensorBoard in the run's folder, False for none, or
            the user's own.
        folder: The run's folder.
        first_step: The round the fit starts with, counted from 1.
    """
    if isinstance(setting, Logger):
        return [setting]
    if not isinstance(setting, bool):
        return list(setting)
    if not setting:
        return []
    # purge_step hides what a killed run logged of rounds that are now done again
    return [
        TensorBoardLogger(
            str(folder), name="", version="", default_hp_metric=False, purge_step=first_step
        )
    ]
