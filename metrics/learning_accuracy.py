"""LA, learning accuracy: how well each task is learnt when its turn comes."""

from __future__ import annotations

from torch import Tensor
from torchmetrics import Metric

from lit_fed.metrics.arguments import square_matrix
from lit_fed.metrics.task_metric import TaskMetric, last_task


def learning_accuracy(accuracy: Tensor) -> Tensor:
    r"""Mean accuracy on each task just after it was trained on.

    .. math:: LA = \frac{100}{T} \sum_t R_{t,t}

    Riemer et al., "Learning to Learn without Forgetting by Maximizing Transfer and Minimizing
    Interference", 2019, https://arxiv.org/abs/1810.11910, §6.1.

    Args:
        accuracy: R, [T, T], accuracies in [0, 1]; NaN where nothing was evaluated. The sequence ends at the
            last row with an entry.

    Returns:
        A scalar from 0 to 100; NaN if nothing, or one of the cells, was not evaluated.

    Raises:
        ValueError: If ``accuracy`` is not square.
        TypeError: If it holds integers.

    Example:
        >>> import torch
        >>> learning_accuracy(torch.tensor([[1.0, 0.5], [0.75, 0.9]]))
        tensor(95.)
    """
    last = last_task(square_matrix("accuracy", accuracy))
    return 100 * accuracy.diagonal()[: last + 1].mean()


class LearningAccuracy(TaskMetric):
    r"""LA: the mean accuracy on each task just after it was trained on, higher is better.

    .. math:: LA = \frac{100}{T} \sum_t R_{t,t}

    Beside retention it tells a model that forgets nothing from one that never learnt. NaN (nothing to
    tell): no update yet, or a task never evaluated after its training.

    Args:
        num_tasks: Number T of tasks in the sequence.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> la = LearningAccuracy(num_tasks=2)
        >>> la.update(1.0, after=0, task=0, weight=100)
        >>> la.update(0.9, after=1, task=1, weight=100)
        >>> la.compute()
        tensor(95.)
    """

    higher_is_better = True
    plot_upper_bound = 100.0
    plot = Metric._plot

    def compute(self) -> Tensor:
        """The mean, a scalar from 0 to 100."""
        return learning_accuracy(self.matrix())
