"""What the metrics over a sequence of tasks share: the mean score per (after, task)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_fed.metrics.arguments import index_within, positive_integer, weighted_sum
from lit_fed.metrics.running_sums import RunningSums
from lit_fed.metrics.slopes import without_slope


def mean_matrix(correct: Tensor, total: Tensor) -> Tensor:
    """Divides sums by counts; a cell which was never evaluated is NaN.

    Args:
        correct: Sums of scores, any shape.
        total: Their counts, the same shape.

    Returns:
        The means, the same shape.

    Example:
        >>> mean_matrix(torch.tensor([3.0, 0.0]), torch.tensor([4.0, 0.0]))
        tensor([0.7500,    nan])
    """
    return correct / total


def above_chance(accuracy: Tensor, chance: float | Sequence[float] | Tensor) -> Tensor:
    r"""The part of the accuracy that guessing does not explain.

    .. math:: a^+ = \max\left(0, \frac{a - c}{1 - c}\right)

    Args:
        accuracy: Accuracies in [0, 1], [..., T]; NaN stays NaN.
        chance: Accuracy of guessing, in [0, 1): one number, or one for each of the T tasks.

    Returns:
        Values in [0, 1], the shape of ``accuracy``. Their gradient is NaN at and below a chance above 0, where it
        would say that nothing can change.

    Raises:
        ValueError: If ``chance`` is outside [0, 1) or has another length than T.

    Example:
        >>> above_chance(torch.tensor([0.4, 0.5, 0.75, 1.0]), chance=0.5)
        tensor([0.0000, 0.0000, 0.5000, 1.0000])
    """
    chances = torch.as_tensor(chance, dtype=accuracy.dtype, device=accuracy.device)
    if chances.ndim > 1 or (chances.ndim == 1 and chances.shape[0] != accuracy.shape[-1]):
        raise ValueError(
            f"`chance` is expected to be a number or {accuracy.shape[-1]} numbers, one a task, "
            f"but has shape {list(chances.shape)}"
        )
    if not bool(((chances >= 0) & (chances < 1)).all()):
        raise ValueError(f"`chance` is expected to lie in [0, 1), but got {chances.tolist()}")
    gain = (accuracy - chances) / (1 - chances)
    cut = (gain.clamp(min=0) - gain).detach()
    return without_slope(gain + cut, (gain <= 0) & (chances > 0))


def last_task(matrix: Tensor) -> int:
    """The last row of a task matrix in which anything was evaluated.

    Args:
        matrix: [T, T], NaN where nothing was evaluated.

    Returns:
        Its index, counted from 0; -1 if there is none.

    Example:
        >>> nan = float("nan")
        >>> last_task(torch.tensor([[0.9, nan, nan], [0.8, 0.9, nan], [nan, nan, nan]]))
        1
    """
    rows = (~matrix.isnan()).any(dim=1).nonzero()
    return int(rows[-1]) if len(rows) else -1


class TaskMetric(RunningSums):
    """A metric over R[t, j], the mean score on task j after training on task t.

    Tasks are counted from 0. The row ``after=-1`` holds what the model could do before the first
    task, which forward transfer compares with. Metrics of this kind have the same states, so that in a
    :class:`torchmetrics.MetricCollection` those that count the same update one matrix.

    Args:
        num_tasks: Number T of tasks in the sequence.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``num_tasks`` is no integer.
        ValueError: If ``num_tasks`` is below 1.
    """

    is_differentiable = False
    full_state_update = False

    correct: Tensor
    total: Tensor

    # Of a single score, given to `update`.
    lowest_value = 0.0

    def __init__(self, num_tasks: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_tasks = positive_integer("num_tasks", num_tasks)
        for state in ("correct", "total"):
            self.add_sum(state, num_tasks + 1, num_tasks)

    def update(
        self, value: Tensor | float, after: int, task: int, weight: Tensor | float = 1.0
    ) -> None:
        """Adds evaluations of one task.

        Calls for the same cell add up: batches of one evaluation, on one or several processes.
        :meth:`reset_row` makes place for a new evaluation of the same row. An empty ``value``
        adds nothing.

        Args:
            value: What was correct (bool or 0 and 1, [N]), or a mean score in [0, 1] over
                ``weight`` examples.
            after: The task trained on last, from 0; -1 is before the first one.
            task: The task evaluated, from 0.
            weight: How many examples each entry of ``value`` stands for.

        Raises:
            TypeError: If ``after`` or ``task`` is no integer.
            ValueError: If ``after`` or ``task`` is no task, a value is out of range, or a weight
                is negative.
        """
        row = index_within("after", after, -1, self.num_tasks) + 1
        column = index_within("task", task, 0, self.num_tasks)
        correct, total = weighted_sum(value, weight, self.lowest_value, 1.0, self.device)
        # Out of place: states made under inference_mode may not be changed outside of it.
        cell = torch.zeros_like(self.total)
        cell[row, column] = 1
        self.correct = self.correct + cell * correct
        self.total = self.total + cell * total

    def reset_row(self, after: int) -> None:
        """Forgets what was evaluated after one task, to evaluate it anew, say in each round.

        With several processes, every one has to call it; in a collection, every metric.

        Args:
            after: The row, from -1.

        Raises:
            TypeError: If ``after`` is no integer.
            ValueError: If ``after`` is no task.
        """
        row = index_within("after", after, -1, self.num_tasks) + 1
        keep = torch.ones_like(self.total)
        keep[row] = 0
        self.correct = self.correct * keep
        self.total = self.total * keep
        self._computed = None

    def matrix(self) -> Tensor:
        """R, [T, T], of this process (of all of them inside ``compute``); NaN: never evaluated."""
        return self._means()[1:]

    def initial(self) -> Tensor:
        """The scores before the first task, [T]; NaN: never evaluated."""
        return self._means()[0]

    def _means(self) -> Tensor:
        return mean_matrix(self.correct, self.total).to(torch.get_default_dtype())
