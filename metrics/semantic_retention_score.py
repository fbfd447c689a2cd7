"""SRS, the semantic retention score: what is left of earlier tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_fed.metrics.arguments import one_of, square_matrix
from lit_fed.metrics.output_similarity import jensen_shannon_similarity, sentence_cosine
from lit_fed.metrics.slopes import share_of, without_slope
from lit_fed.metrics.state_marks import keep_apart
from lit_fed.metrics.task_metric import TaskMetric, above_chance, last_task

RetentionMode = Literal["accuracy", "since_learnt", "cosine", "jsd", "bwt"]


def semantic_retention(accuracy: Tensor, chance: float | Sequence[float] | Tensor = 0.0) -> Tensor:
    r"""How much of the best accuracy on earlier tasks, above chance, is left after the last one.

    .. math:: SRS = \frac{100}{T-1} \sum_{j<T} \min\left(1,
        \frac{R^+_{T,j}}{\max_{j \le t < T} R^+_{t,j}}\right), \quad 0/0 = 0

    A task that rose above chance after the last one, and not before, counts as kept.

    Args:
        accuracy: R, [T, T], accuracies in [0, 1]; NaN where nothing was evaluated. The sequence
            ends at the last row with an entry.
        chance: Accuracy of guessing, in [0, 1): one number, or one a task.

    Returns:
        A scalar from 0 to 100; NaN after a single task, if a task was not evaluated after the last
        one, or never before it.

    Raises:
        ValueError: If ``accuracy`` is not square, or ``chance`` is out of range.
        TypeError: If ``accuracy`` holds integers.

    Example:
        >>> R = torch.tensor([[1.0, 0.5], [0.75, 0.9]])
        >>> semantic_retention(R, chance=0.5)
        tensor(50.)
    """
    gain = above_chance(square_matrix("accuracy", accuracy), chance)
    last = last_task(gain)
    if last < 1:
        return gain.new_tensor(torch.nan)
    final, before = gain[last, :last], gain[:last, :last]
    missing = torch.ones_like(before).triu(1).bool() | before.isnan()
    best = before.masked_fill(missing, -torch.inf).amax(dim=0)
    best = best.masked_fill(best.isinf(), torch.nan)
    risen = 1 + without_slope(best, best == 0)
    kept = torch.where((best == 0) & (final > 0), risen, share_of(final, best)).clamp(max=1)
    return 100 * kept.mean()


def retention_since_learnt(
    accuracy: Tensor, chance: float | Sequence[float] | Tensor = 0.0
) -> Tensor:
    r"""How much of the accuracy that earlier tasks had when they were learnt, above chance, is left.

    .. math:: \frac{100 \sum_{j<T} R^+_{T,j}}{\sum_{j<T} R^+_{j,j}}, \quad 0/0 = 0

    Nothing is chosen by its value: the maximum over several noisy evaluations in :func:`semantic_retention` is
    above what the model could do, and its cap at 1 below, the more so the smaller the test sets.

    Args:
        accuracy: R, [T, T], as for :func:`semantic_retention`.
        chance: Accuracy of guessing, in [0, 1): one number, or one a task.

    Returns:
        A scalar from 0, above 100 where earlier tasks have gained; NaN after a single task, if one of the cells is
        missing, or where there was nothing to retain: earlier tasks are above chance now, and none was when learnt.

    Raises:
        ValueError: If ``accuracy`` is not square, or ``chance`` is out of range.
        TypeError: If ``accuracy`` holds integers.

    Example:
        >>> R = torch.tensor([[1.0, 0.5], [0.75, 0.9]])
        >>> retention_since_learnt(R, chance=0.5)
        tensor(50.)
    """
    gain = above_chance(square_matrix("accuracy", accuracy), chance)
    last = last_task(gain)
    if last < 1:
        return gain.new_tensor(torch.nan)
    final, learnt = gain[last, :last].sum(), gain.diagonal()[:last].sum()
    return 100 * share_of(final, learnt)


def retained_similarity(similarity: Tensor) -> Tensor:
    r"""Mean similarity to the reference outputs of earlier tasks after the last task.

    .. math:: \frac{100}{T-1} \sum_{j<T} \max(0, S_{T,j})

    Args:
        similarity: S, [T, T], mean similarities in [-1, 1] on task j after task t; NaN where
            nothing was evaluated. The sequence ends at the last row with an entry.

    Returns:
        A scalar from 0 to 100; NaN after a single task, or if a task was not evaluated after the
        last one.

    Raises:
        ValueError: If ``similarity`` is not square.
        TypeError: If it holds integers.

    Example:
        >>> nan = float("nan")
        >>> retained_similarity(torch.tensor([[nan, nan], [0.75, nan]]))
        tensor(75.)
    """
    last = last_task(square_matrix("similarity", similarity))
    if last < 1:
        return similarity.new_tensor(torch.nan)
    return 100 * similarity[last, :last].clamp(min=0).mean()


def backward_transfer(accuracy: Tensor) -> Tensor:
    r"""BWT: what later tasks did to the accuracy on earlier ones.

    .. math:: BWT = \frac{100}{T-1} \sum_{j<T} (R_{T,j} - R_{j,j})

    Lopez-Paz and Ranzato (2017), https://arxiv.org/abs/1706.08840, equation 3.

    Args:
        accuracy: R, [T, T], accuracies in [0, 1]; NaN where nothing was evaluated. The sequence
            ends at the last row with an entry.

    Returns:
        A scalar in percentage points, from -100 to 100: negative for forgetting. NaN after a
        single task, or if one of the cells is missing.

    Raises:
        ValueError: If ``accuracy`` is not square.
        TypeError: If it holds integers.

    Example:
        >>> backward_transfer(torch.tensor([[1.0, 0.5], [0.75, 1.0]]))
        tensor(-25.)
    """
    last = last_task(square_matrix("accuracy", accuracy))
    if last < 1:
        return accuracy.new_tensor(torch.nan)
    return 100 * (accuracy[last] - accuracy.diagonal())[:last].mean()


class SemanticRetentionScore(TaskMetric):
    r"""SRS: how much of what was learnt on earlier tasks is left after the last one, higher better.

    The index of Zou et al., Table 1, which the paper does not define. Here:

    .. math:: SRS = \frac{100}{T-1} \sum_{j<T} \min\left(1,
        \frac{R^+_{T,j}}{\max_{j \le t < T} R^+_{t,j}}\right), \quad
        R^+ = \max\left(0, \frac{R - c}{1 - c}\right), \quad 0/0 = 0

    T is the last task with an evaluation, so that the score can be read during the sequence.

    - A constant classifier, and any model which never rose above ``chance``, scores 0.
    - Nothing forgotten is 100; later gains on an old task do not make up for losses on another.
    - NaN (nothing to tell): no update yet, a single task, or a cell which the score needs and which
      was never evaluated. Among the cells before T those which exist are used. With ``"since_learnt"`` also where
      earlier tasks are above chance now, and none was when it was learnt.

    Args:
        num_tasks: Number of tasks in the sequence.
        chance: Accuracy of guessing, in [0, 1): one number, or one a task. ``"accuracy"`` and
            ``"since_learnt"`` only.
        mode: What is compared. ``"accuracy"``: the formula above. ``"since_learnt"``: with the accuracy
            just after each task, see :func:`retention_since_learnt`. ``"cosine"``: the mean sentence
            cosine between outputs and reference outputs after the last task, negative means as 0,
            over earlier tasks. ``"jsd"``: likewise 1 - JSD / ln 2 of the predicted distributions.
            ``"bwt"``: backward transfer, -100 to 100.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``num_tasks`` is no integer.
        ValueError: If an argument is out of range, or ``chance`` is given where it plays no part.

    Example:
        >>> srs = SemanticRetentionScore(num_tasks=2, chance=0.5)
        >>> srs.update(1.0, after=0, task=0, weight=100)
        >>> srs.update(0.75, after=1, task=0, weight=100)
        >>> srs.update(0.9, after=1, task=1, weight=100)
        >>> srs.compute()
        tensor(50.)
        >>> srs = SemanticRetentionScore(num_tasks=2, mode="jsd")
        >>> now, then = torch.tensor([[0.6, 0.4]]), torch.tensor([[0.9, 0.1]])
        >>> srs.update(now, after=1, task=0, reference=then)
        >>> srs.compute()
        tensor(90.8...)
    """

    higher_is_better = True
    plot_upper_bound = 100.0
    plot = Metric._plot

    def __init__(
        self,
        num_tasks: int,
        chance: float | Sequence[float] = 0.0,
        mode: RetentionMode = "accuracy",
        **kwargs: Any,
    ) -> None:
        super().__init__(num_tasks, **kwargs)
        one_of("mode", mode, get_args(RetentionMode))
        # Refuses now what compute() would refuse after training.
        above_chance(torch.zeros(num_tasks), chance)
        if mode not in ("accuracy", "since_learnt") and chance != 0.0:
            raise ValueError(
                f'`chance` is expected with mode="accuracy" or "since_learnt" only, but mode is {mode!r}'
            )
        self.chance = chance
        self.mode = mode
        if mode == "cosine":
            self.lowest_value = -1.0
        if mode in ("cosine", "jsd"):
            keep_apart(self, mode)

    def update(
        self,
        value: Tensor | float,
        after: int,
        task: int,
        weight: Tensor | float = 1.0,
        *,
        reference: Tensor | None = None,
    ) -> None:
        """Adds evaluations of one task; calls for the same cell add up.

        Args:
            value: ``"accuracy"``, ``"since_learnt"`` and ``"bwt"``: what was correct (bool, [N]) or an accuracy in
                [0, 1] over ``weight`` examples. ``"cosine"``: sentence embeddings of the outputs,
                [N, d]. ``"jsd"``: predicted probabilities, [N, C].
            after: The task trained on last, from 0.
            task: The task evaluated, from 0.
            weight: How many examples each entry (row) of ``value`` stands for.
            reference: Of the shape of ``value``, in the modes ``"cosine"`` and ``"jsd"``: the
                reference outputs, or those of the model just after ``task`` was trained on.

        Raises:
            TypeError: If ``after`` or ``task`` is no integer.
            ValueError: If an argument is out of range or of another shape, or ``reference`` is
                missing, or given where it plays no part.
        """
        super().update(self._score(value, reference), after, task, weight)

    def compute(self) -> Tensor:
        """The score, a scalar."""
        matrix = self.matrix()
        if self.mode == "accuracy":
            return semantic_retention(matrix, self.chance)
        if self.mode == "since_learnt":
            return retention_since_learnt(matrix, self.chance)
        return backward_transfer(matrix) if self.mode == "bwt" else retained_similarity(matrix)

    def _score(self, value: Tensor | float, reference: Tensor | None) -> Tensor | float:
        if self.mode not in ("cosine", "jsd"):
            if reference is not None:
                raise ValueError(
                    "`reference` is expected with the modes 'cosine' and 'jsd' only, "
                    f"but mode is {self.mode!r}"
                )
            return value
        if reference is None or not isinstance(value, Tensor):
            raise ValueError(
                f"`value` and `reference` are expected to be tensors with mode {self.mode!r}, but "
                f"got {type(value).__name__} and {type(reference).__name__}"
            )
        compare = sentence_cosine if self.mode == "cosine" else jensen_shannon_similarity
        return compare(value, reference)
