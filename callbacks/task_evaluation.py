"""Accuracy on every task of a sequence after each of them, and indices of it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lit_fed.atomic_files import write_file
from lit_fed.callbacks.chance import label_counts, majority_share
from lit_fed.callbacks.curves import tensorboard_writers
from lit_fed.callbacks.periodic_evaluation import PeriodicEvaluation, last_round_task
from lit_fed.callbacks.reported_index import report_index
from lit_fed.limits import require_at_least
from lit_fed.metrics import (
    TaskMatrix,
    backward_transfer,
    forward_transfer,
    learning_accuracy,
    mean_matrix,
    retention_since_learnt,
    sampling_error,
    semantic_retention,
    task_transfer,
)

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.federation.federation_view import FederationView
    from lit_fed.module import FederatedModule


class TaskEvaluation(PeriodicEvaluation):
    """Fills R[t, j], the accuracy on task j after task t, and derives indices from it.

    The rows of ``data.test`` (its first table) are taken apart by their column ``task``. A round's
    row of the history gets ``task/accuracy/<task>`` and, as if the sequence had ended there:

    - ``index/SRS`` and ``index/TTA`` of Zou (2024), Table 1;
    - ``index/SRS/since_learnt``, without SRS's maximum over noisy evaluations
      (:func:`~lit_fed.metrics.retention_since_learnt`);
    - ``index/BWT`` and ``index/FWT``, backward and forward transfer (Lopez-Paz and Ranzato, "Gradient Episodic
      Memory for Continual Learning", 2017, https://arxiv.org/abs/1706.08840), and ``index/LA``, learning
      accuracy. FWT compares with the model before the first round, which is evaluated on all tasks once.

    Each has its standard error from the number of test rows as ``index/<name>/error``
    (:func:`~lit_fed.metrics.sampling_error`); an index that cannot be told yet is left out. The matrix goes to
    TensorBoard as the image ``task/matrix``, and to ``task_matrix.csv`` of the run.

    Args:
        every_n_rounds: Evaluate after every so many rounds, beside after each task. None: not.
        adaptation_rounds: TTA takes the accuracy on a task after so many rounds of it: needed where
            the label sets of the tasks differ, so that nothing transfers before.
        known_task: Whether a prediction is the likeliest of the task's own classes (the
            task-incremental scenario) or of all (class-incremental). The same, where the classes are.
        chance: Accuracy of guessing, which SRS subtracts, of each task. None: the share of the most
            frequent class among the task's test rows; for language models 0.
        metric: What :meth:`~lit_fed.FederationView.test` calls the accuracy. Without a global
            model it is the mean over the clients.

    Raises:
        ValueError: If a number is out of range; when a fit starts, if there is no sequence of tasks or a
            task has no test rows.
    """

    def __init__(
        self,
        every_n_rounds: int | None = None,
        adaptation_rounds: int = 0,
        known_task: bool = True,
        chance: list[float] | None = None,
        metric: str = "test/accuracy",
    ) -> None:
        super().__init__(every_n_rounds)
        setting = "TaskEvaluation.adaptation_rounds"
        self.adaptation_rounds = require_at_least(setting, adaptation_rounds, 0)
        self.known_task = known_task
        self.chance = chance
        self.metric = metric
        self.tasks: Sequence[str] = ()
        self._loaded: dict[str, Any] = {}

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        """Take the tests apart; go on with the matrix of a checkpoint."""
        data = trainer.datamodule
        if trainer.rounds_per_task is None or not data.tasks:
            raise ValueError(
                "TaskEvaluation expects `trainer.rounds_per_task` and `data.tasks`, but got "
                f"{trainer.rounds_per_task} and {data.tasks}"
            )
        if not data.tests:
            raise ValueError("TaskEvaluation expects `data.test` to have rows, but there are none")
        if not self.adaptation_rounds <= trainer.rounds_per_task:
            raise ValueError(
                f"`TaskEvaluation.adaptation_rounds` is expected to be at most "
                f"`trainer.rounds_per_task` {trainer.rounds_per_task}, but got {self.adaptation_rounds}"
            )
        self.tasks = data.tasks
        test = next(iter(data.tests.values()))
        self._rows: list[Dataset] = [data.of_task(test, task) for task in self.tasks]
        if empty := [t for t, rows in zip(self.tasks, self._rows, strict=True) if not len(rows)]:
            raise ValueError(
                f"`data.test` is expected to have rows of every task, but has none of {empty}"
            )
        counts = [label_counts(data.encoding, rows) for rows in self._rows]
        self._labels = [sorted(count) if count and self.known_task else None for count in counts]
        taken = [trainer.evaluated(rows) for rows in self._rows]
        self._counts = [len(rows) for rows in taken]
        majority = [majority_share(label_counts(data.encoding, rows)) for rows in taken]
        self._chance = majority if self.chance is None else self.chance
        # R, and the accuracies on each task just before it, or after its first rounds, and at the start.
        self._matrix, self._transfer = TaskMatrix(len(self.tasks)), TaskMatrix(len(self.tasks))
        semantic_retention(self._matrix.matrix(), self._chance)  # what it refuses, it refuses now
        for name, metric in self._sums().items():
            metric.persistent(True)
            if self._loaded:
                states = ("correct", "total")
                metric.load_state_dict({key: self._loaded[f"{name}.{key}"] for key in states})
        self._loaded = {}

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Evaluate all tasks before the first round."""
        if trainer.current_round == 0:
            self._transfer.reset_row(-1)
            for number, rows in enumerate(self._rows):
                accuracy = self._accuracy(trainer.evaluate(rows, self._labels[number]))
                self._transfer.update(accuracy, -1, number, self._counts[number])

    def on_round_evaluation(
        self, trainer: FederationView, module: FederatedModule, metrics: dict[str, float]
    ) -> None:
        """Evaluate all tasks where it is due, or the one that is being adapted to."""
        task, rounds = last_round_task(trainer)
        adapted = task > 0 and rounds == self.adaptation_rounds > 0
        due = self.is_due(trainer)
        if due:
            self._matrix.reset_row(task)
            self._transfer.reset_row(task)
        for number, (name, rows) in enumerate(zip(self.tasks, self._rows, strict=True)):
            if not due and not (adapted and number == task):
                continue
            accuracy = self._accuracy(trainer.evaluate(rows, self._labels[number]))
            metrics[f"task/accuracy/{name}"] = accuracy
            if due:
                self._matrix.update(accuracy, task, number, self._counts[number])
            if due and number == task + 1 and not self.adaptation_rounds:
                self._transfer.update(accuracy, task, number, self._counts[number])
            if adapted and number == task:
                self._transfer.update(accuracy, task - 1, task, self._counts[number])
        self._report(metrics)

    def on_round_report(
        self, trainer: FederationView, module: FederatedModule, metrics: Mapping[str, float]
    ) -> None:
        """Publish the matrix where it has been filled."""
        if self.is_due(trainer):
            self._write(trainer, self._matrix.matrix())

    def _report(self, metrics: dict[str, float]) -> None:
        """Add the indices that can be told."""
        matrix, count = self._matrix.matrix(), self._matrix.total[1:]
        of_matrix: dict[str, Callable[[Tensor], Tensor]] = {
            "SRS": lambda r: semantic_retention(r, self._chance),
            "SRS/since_learnt": lambda r: retention_since_learnt(r, self._chance),
            "BWT": backward_transfer,
            "LA": learning_accuracy,
        }
        for name, index in of_matrix.items():
            report_index(metrics, name, index(matrix), sampling_error(index, matrix, count))
        # the accuracies before the first task stand above those after each
        whole, count = (
            mean_matrix(self._transfer.correct, self._transfer.total),
            self._transfer.total,
        )
        of_transfer: dict[str, Callable[[Tensor], Tensor]] = {
            "TTA": lambda r: task_transfer(r[1:]),
            "FWT": lambda r: forward_transfer(r[1:], r[0]),
        }
        for name, index in of_transfer.items():
            report_index(metrics, name, index(whole), sampling_error(index, whole, count))

    def state_dict(self) -> dict[str, Any]:
        """The sums and counts of R, of which all follows."""
        return {
            f"{name}.{key}": value
            for name, metric in self._sums().items()
            for key, value in metric.state_dict().items()
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave, at the start of the fit."""
        self._loaded = state_dict

    def _sums(self) -> dict[str, TaskMatrix]:
        return {"matrix": self._matrix, "transfer": self._transfer} if self.tasks else {}

    def _accuracy(self, metrics: dict[str, float]) -> float:
        for name in (self.metric, f"clients/{self.metric}/mean"):
            if name in metrics:
                return metrics[name]
        raise ValueError(
            f"`TaskEvaluation.metric` is expected to be one of {sorted(metrics)}, but got "
            f"{self.metric!r}"
        )

    def _write(self, trainer: FederationView, matrix: Tensor) -> None:
        if (folder := self.run_folder(trainer)) is not None:
            write_file(folder / "task_matrix.csv", matrix_csv(matrix, self.tasks))
        for writer in tensorboard_writers(trainer):
            figure, _ = self._matrix.plot(matrix, labels=self.tasks)
            writer.add_figure("task/matrix", figure, trainer.current_round)


def matrix_csv(matrix: Tensor, tasks: Sequence[str]) -> str:
    """Write R as CSV: a row for the task trained on last, a column for the task evaluated.

    Args:
        matrix: [T, T]; cells that are NaN stay empty.
        tasks: Names of the tasks.

    Example:
        >>> import torch
        >>> print(matrix_csv(torch.tensor([[0.5, float("nan")], [0.25, 1.0]]), ["a", "b"]))
        after,a,b
        a,0.5,
        b,0.25,1
        <BLANKLINE>
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["after", *tasks])
    for name, row in zip(tasks, matrix.tolist(), strict=True):
        writer.writerow([name, *("" if math.isnan(value) else f"{value:.6g}" for value in row)])
    return text.getvalue()
