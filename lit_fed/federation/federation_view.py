"""A federation as callbacks see it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import Logger

from lit_fed.data import FederatedDataModule
from lit_fed.federation.state import FederationState
from lit_fed.module import FederatedModule
from lit_fed.timers import Timers

if TYPE_CHECKING:
    from datasets import Dataset


class FederationView:
    """What a callback may read of a trainer and ask of it; :class:`~lit_fed.FederatedTrainer` is one.

    Attributes:
        datamodule: The clients' data.
        fabric: The device, the precision and the processes.
        log_dir: The run's folder; None where it has none.
        max_rounds: Rounds of the federation.
        rounds_per_task: Rounds of each task; None where there is no sequence of them.
        seed: The run's seed.
        fast_dev_run: Batches of a trial run; 0 if it is none.
        callback_metrics: The last metrics by name.
        final_metrics: Metrics of the test at the end.
        should_stop: Set it to end the federation after the round.
        interrupted: Whether it was broken off by Ctrl-C.
        timers: Seconds by phase of the round.
    """

    datamodule: FederatedDataModule
    fabric: Fabric
    log_dir: Path | None
    max_rounds: int
    rounds_per_task: int | None
    seed: int
    fast_dev_run: int
    callback_metrics: dict[str, torch.Tensor]
    final_metrics: dict[str, float]
    should_stop: bool
    interrupted: bool
    timers: Timers

    @property
    @abstractmethod
    def lightning_module(self) -> FederatedModule:
        """The module that a hook is about: the resident one, or a client's."""

    @property
    @abstractmethod
    def loggers(self) -> list[Logger]:
        """Lightning's loggers."""

    @property
    @abstractmethod
    def federation(self) -> FederationState:
        """The state after the last finished round."""

    @abstractmethod
    def evaluate(self, rows: Dataset, labels: Sequence[int] | None = None) -> dict[str, float]:
        """Test the global model, or every client's where there is none, on any rows."""

    @abstractmethod
    def act_as_server(self) -> FederatedModule:
        """Make the module the server with the last broadcast, which is the global model, and return it."""

    @abstractmethod
    def act_as_client(self, index: int) -> FederatedModule:
        """Make the module a client at the start of its next round, and return it."""

    @abstractmethod
    def checkpoint_writer(self, path: str | Path) -> Callable[[], None]:
        """What writes the present state to a folder when it is called."""

    @property
    def current_round(self) -> int:
        """Rounds finished, which is also the number of the round under way, counted from 0."""
        return self.federation.round

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes files."""
        return bool(self.fabric.is_global_zero)
