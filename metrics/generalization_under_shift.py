"""GuS, generalization under shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_fed.metrics.arguments import one_of, weighted_sum
from lit_fed.metrics.running_sums import RunningSums
from lit_fed.metrics.slopes import share_of
from lit_fed.metrics.state_marks import keep_apart
from lit_fed.metrics.task_metric import above_chance, mean_matrix

ShiftMode = Literal["macro", "above_chance", "worst", "ratio"]


def macro_accuracy(accuracy: Tensor) -> Tensor:
    """The mean over test sets, whatever their sizes.

    Args:
        accuracy: Accuracies in [0, 1], [S].

    Returns:
        A scalar from 0 to 100; NaN for no test set, or if an accuracy is NaN.

    Example:
        >>> macro_accuracy(torch.tensor([0.5, 1.0]))
        tensor(75.)
    """
    return 100 * accuracy.mean()


def worst_accuracy(accuracy: Tensor) -> Tensor:
    """The smallest accuracy over test sets.

    Args:
        accuracy: Accuracies in [0, 1], [S], S at least 1.

    Returns:
        A scalar from 0 to 100; NaN if an accuracy is NaN.

    Example:
        >>> worst_accuracy(torch.tensor([0.5, 1.0]))
        tensor(50.)
    """
    return 100 * accuracy.amin()


def shift_ratio(accuracy: Tensor, in_distribution: Tensor) -> Tensor:
    """Mean accuracy under shift as a percentage of that in distribution.

    Args:
        accuracy: Accuracies on shifted test sets, in [0, 1], [S].
        in_distribution: Accuracy on the test set without shift, a scalar.

    Returns:
        A scalar from 0, 100 for no loss; more than 100 if the shifted sets are easier. 0/0 = 0, and NaN where the
        accuracy in distribution alone is 0.

    Example:
        >>> shift_ratio(torch.tensor([0.5, 1.0]), torch.tensor(1.0))
        tensor(75.)
    """
    return 100 * share_of(accuracy.mean(), in_distribution)


class GeneralizationUnderShift(RunningSums):
    r"""GuS: the accuracy on test sets whose distribution has shifted, higher is better.

    The index of Zou et al., Table 1, which the paper does not define. Here the mean over S shifted
    test sets, each counting the same:

    .. math:: GuS = \frac{100}{S} \sum_s a_s

    - A constant classifier scores its accuracy, about chance, with ``"macro"`` and ``"worst"``;
      with ``"ratio"`` it scores about 100, which is why that is not the default. With
      ``"above_chance"`` it scores 0.
    - A model which is never right scores 0, with ``"ratio"`` too: 0/0 = 0.
    - NaN (nothing to tell): no update yet, a test set which was never evaluated, or with ``"ratio"`` an accuracy in
      distribution of 0 where another is above.

    Args:
        shifts: Names of the shifted test sets.
        mode: ``"macro"``: the formula above. ``"above_chance"``: the mean of what guessing does not
            explain, see :func:`~lit_fed.metrics.above_chance`. ``"worst"``: the smallest accuracy.
            ``"ratio"``: the mean as a percentage of the accuracy in distribution (given with
            ``shift=None``), which may exceed 100.
        chance: Accuracy of guessing, in [0, 1): one number, or one a shifted set. ``"above_chance"`` only.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If ``shifts`` is empty, a bare string, or names a set twice, ``mode`` is unknown, or
            ``chance`` is out of range or given where it plays no part.

    Example:
        >>> gus = GeneralizationUnderShift(["typos", "idioms"])
        >>> gus.update(torch.tensor([True, False]), shift="typos")
        >>> gus.update(0.75, shift="idioms", weight=400)
        >>> gus.compute()
        tensor(62.5000)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0
    plot = Metric._plot

    correct: Tensor
    total: Tensor

    def __init__(
        self,
        shifts: Sequence[str],
        mode: ShiftMode = "macro",
        chance: float | Sequence[float] = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if isinstance(shifts, str) or not shifts or len(set(shifts)) < len(shifts):
            raise ValueError(
                f"`shifts` is expected to list different test sets, at least one, but got {shifts!r}"
            )
        one_of("mode", mode, get_args(ShiftMode))
        self.shifts = tuple(shifts)
        # Refuses now what compute() would refuse after training.
        above_chance(torch.zeros(len(shifts)), chance)
        if mode != "above_chance" and chance != 0.0:
            raise ValueError(
                f'`chance` is expected with mode="above_chance" only, but mode is {mode!r}'
            )
        self.chance = chance
        self.mode = mode
        # The last entry is the test set in distribution.
        for state in ("correct", "total"):
            self.add_sum(state, len(self.shifts) + 1)
        keep_apart(self, *self.shifts)

    def update(
        self, value: Tensor | float, shift: str | None, weight: Tensor | float = 1.0
    ) -> None:
        """Adds evaluations of one test set; calls for the same set add up.

        Args:
            value: What was correct (bool, [N]), or an accuracy in [0, 1] over ``weight`` examples.
            shift: Name of the test set; None for the one in distribution.
            weight: How many examples each entry of ``value`` stands for.

        Raises:
            ValueError: If ``shift`` is unknown, a value is out of range, or a weight is negative.
        """
        if shift is not None:
            one_of("shift", shift, self.shifts)
        correct, total = weighted_sum(value, weight, 0.0, 1.0, self.device)
        cell = torch.zeros_like(self.total)
        cell[-1 if shift is None else self.shifts.index(shift)] = 1
        self.correct = self.correct + cell * correct
        self.total = self.total + cell * total

    def compute(self) -> Tensor:
        """The score, a scalar."""
        accuracy = mean_matrix(self.correct, self.total).to(torch.get_default_dtype())
        if self.mode == "ratio":
            return shift_ratio(accuracy[:-1], accuracy[-1])
        if self.mode == "above_chance":
            return macro_accuracy(above_chance(accuracy[:-1], self.chance))
        return (worst_accuracy if self.mode == "worst" else macro_accuracy)(accuracy[:-1])
