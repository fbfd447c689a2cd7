"""TTA, task transfer accuracy: what earlier tasks do for the next one."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_fed.metrics.arguments import one_of, positive_integer, square_matrix
from lit_fed.metrics.state_marks import keep_apart
from lit_fed.metrics.task_metric import TaskMetric, last_task

TransferMode = Literal["accuracy", "fwt"]


def task_transfer(accuracy: Tensor) -> Tensor:
    r"""Mean accuracy on each task just before it is trained on.

    .. math:: TTA = \frac{100}{T-1} \sum_{t \ge 2} R_{t-1,t}

    Args:
        accuracy: R, [T, T], accuracies in [0, 1]; NaN where nothing was evaluated. If training
            has not come to the end, the mean goes up to the task after the last row with an entry.

    Returns:
        A scalar from 0 to 100; NaN for a single task, or if one of the cells is missing.

    Raises:
        ValueError: If ``accuracy`` is not square.
        TypeError: If it holds integers.

    Example:
        >>> task_transfer(torch.tensor([[0.9, 0.5, 0.5], [0.7, 0.9, 0.75], [0.7, 0.9, 0.9]]))
        tensor(62.5000)
    """
    last = last_task(square_matrix("accuracy", accuracy))
    return 100 * accuracy.diagonal(offset=1)[: last + 1].mean()


def forward_transfer(accuracy: Tensor, initial: Tensor) -> Tensor:
    r"""FWT: what earlier tasks add to the accuracy on the next one.

    .. math:: FWT = \frac{100}{T-1} \sum_{t \ge 2} (R_{t-1,t} - b_t)

    Lopez-Paz and Ranzato (2017), https://arxiv.org/abs/1706.08840, equation 4.

    Args:
        accuracy: R, [T, T], as for :func:`task_transfer`.
        initial: b, [T], the accuracy on each task before the first one.

    Returns:
        A scalar in percentage points, from -100 to 100; NaN for a single task, or if one of the
        cells is missing.

    Raises:
        ValueError: If ``accuracy`` is not square, or ``initial`` has another length.
        TypeError: If ``accuracy`` holds integers.

    Example:
        >>> R = torch.tensor([[0.9, 0.75], [0.7, 0.9]])
        >>> forward_transfer(R, initial=torch.tensor([0.5, 0.5]))
        tensor(25.)
    """
    if initial.shape != accuracy.shape[1:]:
        raise ValueError(
            f"`initial` is expected to have shape {list(accuracy.shape[1:])}, one accuracy a task, "
            f"but has {list(initial.shape)}"
        )
    return task_transfer(accuracy - initial)


class TaskTransferAccuracy(TaskMetric):
    r"""TTA: the accuracy on each task before it is trained on, higher is better.

    The index of Zou et al., Table 1, which the paper does not define. Here, over the next task each
    time:

    .. math:: TTA = \frac{100}{T-1} \sum_{t \ge 2} R_{t-1,t}

    It can be read during the sequence: the mean then goes up to the task after the last evaluated.

    - A constant classifier, and a model which never learns, score their accuracy, which is about
      chance: there is no correction.
    - NaN (nothing to tell): no update yet, a single task, or R[t-1, t] never evaluated.
    - Where the tasks' label sets differ, nothing transfers without adaptation: give
      ``adaptation_rounds``.

    Args:
        num_tasks: Number T of tasks in the sequence.
        mode: ``"accuracy"``: the formula above, 0 to 100. ``"fwt"``: forward transfer, less the
            accuracy before the first task (given with ``after=-1``), -100 to 100.
        adaptation_rounds: Take R[t-1, t] after so many rounds of training on task t.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``num_tasks`` or ``adaptation_rounds`` is no integer.
        ValueError: If an argument is out of range.

    Example:
        >>> tta = TaskTransferAccuracy(num_tasks=3)
        >>> tta.update(0.5, after=0, task=1, weight=100)
        >>> tta.update(torch.tensor([True, True, True, False]), after=1, task=2)
        >>> tta.compute()
        tensor(62.5000)
        >>> tta = TaskTransferAccuracy(num_tasks=2, adaptation_rounds=2)
        >>> for rounds, accuracy in enumerate([0.0, 0.5, 0.75]):
        ...     tta.update(accuracy, after=0, task=1, rounds=rounds)
        >>> tta.compute()
        tensor(75.)
    """

    higher_is_better = True
    plot_upper_bound = 100.0
    plot = Metric._plot

    def __init__(
        self,
        num_tasks: int,
        mode: TransferMode = "accuracy",
        adaptation_rounds: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_tasks, **kwargs)
        one_of("mode", mode, get_args(TransferMode))
        self.mode = mode
        self.adaptation_rounds = positive_integer("adaptation_rounds", adaptation_rounds, least=0)
        # of no adaptation as well: a matrix counts values whatever their `rounds`
        keep_apart(self, self.adaptation_rounds)

    def update(
        self,
        value: Tensor | float,
        after: int,
        task: int,
        weight: Tensor | float = 1.0,
        *,
        rounds: int = 0,
    ) -> None:
        """Adds evaluations of one task; calls for the same cell add up.

        Args:
            value: What was correct (bool, [N]), or an accuracy in [0, 1] over ``weight`` examples.
            after: The last task whose training is complete, from 0; -1 is before the first one.
            task: The task evaluated, from 0.
            weight: How many examples each entry of ``value`` stands for.
            rounds: How many rounds the model has since been trained on ``task``. On the task after
                ``after``, only values with ``rounds == adaptation_rounds`` count; on others, only
                values with 0.

        Raises:
            TypeError: If ``after``, ``task`` or ``rounds`` is no integer.
            ValueError: If an argument is out of range.
        """
        wanted = self.adaptation_rounds if after >= 0 and task == after + 1 else 0
        counted = positive_integer("rounds", rounds, least=0) == wanted
        super().update(value, after, task, torch.as_tensor(weight) * counted)

    def compute(self) -> Tensor:
        """The score, a scalar."""
        if self.mode == "fwt":
            return forward_transfer(self.matrix(), self.initial())
        return task_transfer(self.matrix())
