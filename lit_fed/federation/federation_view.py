"""A federation as callbacks see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric import Fabric
from lightning.fabric.loggers import Logger
from lightning.pytorch import Callback

from lit_fed.attachment import Attachment
from lit_fed.data import FederatedDataModule
from lit_fed.federation.callback_events import CallbackEvents
from lit_fed.federation.client.local_settings import LocalSettings
from lit_fed.federation.execution import ClientExecution
from lit_fed.federation.generation import GenerationSettings
from lit_fed.federation.loop import FederationLoop
from lit_fed.federation.state import FederationState
from lit_fed.module import FederatedModule
from lit_fed.privacy import DPSGD
from lit_fed.timers import Timers

if TYPE_CHECKING:
    from datasets import Dataset


class FederationView:
    """What a callback may read of a trainer and ask of it; :class:`~lit_fed.FederatedTrainer` is one.

    Attributes:
        datamodule: The clients' data.
        fabric: The device, the precision and the processes.
        execution: How a round's clients are run.
        attachments: What is done from outside to clients' rounds, in order.
        privacy: How clients train by DP-SGD; None where they do not.
        compile: Whether the model's layers may be compiled.
        log_dir: The run's folder; None where it has none.
        max_rounds: Rounds of the federation.
        rounds_per_task: Rounds of each task; None where there is no sequence of them.
        clients_per_round: Clients sampled in a round, as a count or a fraction.
        seed: The run's seed.
        fast_dev_run: Batches of a trial run; 0 if it is none.
        limit_test_batches: Batches of a test.
        callback_metrics: The last metrics by name.
        final_metrics: Metrics of the test at the end.
        should_stop: Set it to end the federation after the round.
        interrupted: Whether it was broken off by Ctrl-C.
        timers: Seconds by phase of the round.
        events: What calls the callbacks.
        callbacks: Those of the run.
    """

    datamodule: FederatedDataModule
    fabric: Fabric
    execution: ClientExecution
    attachments: list[Attachment]
    privacy: DPSGD | None
    compile: bool
    log_dir: Path | None
    max_rounds: int
    rounds_per_task: int | None
    clients_per_round: int | float
    seed: int
    fast_dev_run: int
    limit_test_batches: int | float
    callback_metrics: dict[str, torch.Tensor]
    final_metrics: dict[str, float]
    should_stop: bool
    interrupted: bool
    timers: Timers
    events: CallbackEvents
    callbacks: list[Callback]
    _fitted: FederationLoop | None = None

    def call(self, hook: str, *args: Any) -> None:
        """Call a hook of the callbacks as ``hook(trainer, module, *args)`` and of the module as ``hook(*args)``."""
        self.events.report(self.lightning_module, hook, *args)

    def act_as_server(self) -> FederatedModule:
        """Make the module the server with the last broadcast, which is the global model, and return it."""
        return self._loop.act_as_server()

    def act_as_client(self, index: int) -> FederatedModule:
        """Make the module a client at the start of its next round, and return it.

        Args:
            index: The client's position among all clients.
        """
        return self._loop.act_as_client(index)

    def save_checkpoint(self, path: str | Path) -> None:
        """Write the state after the last finished round to a folder, whole or not at all."""
        if self.is_global_zero:
            self.checkpoint_writer(path)()

    def checkpoint_writer(self, path: str | Path) -> Callable[[], None]:
        """What writes the present state to a folder when it is called, in whatever thread and however late."""
        return self._loop.checkpoint_writer(Path(path))

    @property
    def lightning_module(self) -> FederatedModule:
        """The module that the hook under way is about, a client's for instance; else the resident one."""
        return self.events.module or self._loop.module

    @property
    def loggers(self) -> list[Logger]:
        """Lightning's loggers."""
        return [] if self._fitted is None else self._fitted.run.loggers

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the run is known by, digests of its models and rows among it."""
        return self._loop.run.identity

    @property
    def federation(self) -> FederationState:
        """The state after the last finished round.

        Raises:
            RuntimeError: Before ``fit``, ``validate``, ``test`` or ``predict``.
        """
        return self._loop.state

    @property
    def local_settings(self) -> LocalSettings:
        """How much and how clients train in a round."""
        return self._loop.training.settings

    @property
    def task_index(self) -> int | None:
        """The position in ``data.tasks`` of the task under way (after the last round: the last one)."""
        return self._loop.selection.task_index(self.federation)

    @property
    def task(self) -> str | None:
        """The task under way; None where there is no sequence of them."""
        return self._loop.selection.task(self.federation)

    @property
    def current_round(self) -> int:
        """Rounds finished, which is also the number of the round under way, counted from 0."""
        return self.federation.round

    @property
    def is_last_round(self) -> bool:
        """Whether no round follows the finished ones: also where a callback has asked for an end by now.

        All processes have to ask, since the first one's callbacks decide.
        """
        raise NotImplementedError

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes files."""
        return bool(self.fabric.is_global_zero)

    def evaluated(self, rows: Dataset) -> Dataset:
        """Those of some rows that :meth:`evaluate` takes: all, or the first ones by ``limit_test_batches``.

        Args:
            rows: Rows of the data module's kind.
        """
        return self._loop.training.evaluation.limited_rows(rows, self.limit_test_batches)

    def evaluate(self, rows: Dataset, labels: Sequence[int] | None = None) -> dict[str, float]:
        """Test the global model, and each client's own where there are such, on any rows.

        Args:
            rows: Rows of the data module's kind, such as those of one task.
            labels: The classes that can be predicted, where not all are in question.

        Returns:
            Metrics by name, as of :meth:`test`.

        Raises:
            ValueError: If there are no rows.
        """
        if not len(rows):
            raise ValueError(
                "`rows` of evaluate are expected to be one or more, but there are none"
            )
        with self.lightning_module.predicting(labels):
            return self._loop.evaluate({"test": rows}, "test", self.limit_test_batches)

    def classify(self, rows: Dataset, client: int | None = None) -> npt.NDArray[np.float64]:
        """The probabilities that the global model, or a client's own, gives the classes of rows, [N, C].

        Args:
            rows: N rows of the data module's kind.
            client: The position among all clients of the one whose own model it is. None: the global model.

        Raises:
            TypeError: If the model does not classify.
        """
        return self._loop.classify(rows, client)

    def beside(self, **changes: Any) -> FederationView:
        """Another trainer with this one's settings, for a federation that this one is compared with.

        Args:
            **changes: Settings that differ. Those of execution, such as several processes, are not taken along.
        """
        raise NotImplementedError

    def fit(
        self,
        model: FederatedModule,
        datamodule: FederatedDataModule | None = None,
        ckpt_path: str | None = None,
    ) -> None:
        """Run a federation; see :class:`~lit_fed.FederatedTrainer`."""
        raise NotImplementedError

    def generate(
        self,
        rows: Dataset | Sequence[str],
        settings: GenerationSettings,
        client: int | None = None,
    ) -> list[str]:
        """What the global model, or a client's own, answers to rows or prompts.

        Args:
            rows: Rows of the data module's kind, or prompts as the model gets them.
            settings: How texts are generated.
            client: The position among all clients of the one whose own model answers. None: the global model.

        Raises:
            TypeError: If the model does not generate.
            UnansweredError: If it is a black box that has failed, which is no error of the run.
            ValueError: If a prompt and its answer are longer than the model allows, or it has no token that ends a
                text.
        """
        return self._loop.generate(rows, settings, client)

    def check_generation(self, rows: Dataset | Sequence[str], settings: GenerationSettings) -> None:
        """Raise where :meth:`generate` would, before anything takes time."""
        self._loop.check_generation(rows, settings)

    @property
    def _loop(self) -> FederationLoop:
        if self._fitted is None:
            raise RuntimeError(
                "the trainer has no federation before fit, validate, test or predict is called"
            )
        return self._fitted
