"""Whether differences over seeds show what is claimed: intervals, Holm's correction, and rates without effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Verdict = Literal["holds", "fails", "undecided", "not tested"]
LEVEL = 0.05
ROUNDING = 1e-12
"""What is smaller, of what it was made of, is nothing but rounding."""


def p_values(differences: Array, alike: float | None = None) -> Array:
    """Two-sided p-values of Student's t-test that the mean difference over the seeds is 0.

    Args:
        differences: ``[..., seeds]``.
        alike: That of differences that are all the same, but for rounding, and so have no spread to judge by. None:
            their signs alone count, by the sign test 2 · 2⁻ⁿ of n seeds.

    Returns:
        ``[...]``; 1 of a single seed, and where all are 0.

    Example:
        >>> float(p_values(np.array([1.0, 1.5, 2.0])).round(4))
        0.0351
        >>> float(p_values(np.array([0.02, 0.02, 0.02]))), float(p_values(np.array([0.0, 0.0, 0.0])))
        (0.25, 1.0)
    """
    seeds = differences.shape[-1]
    mean = differences.mean(-1)
    if seeds < 2:
        return np.ones_like(mean)
    error = differences.std(-1, ddof=1) / np.sqrt(seeds)
    varied = error > ROUNDING * np.abs(differences).max(-1)
    t = np.divide(np.abs(mean), error, out=np.zeros_like(mean), where=varied)
    same = 2.0 ** (1 - seeds) if alike is None else alike
    without = np.where(np.abs(mean) > 0, same, 1.0)
    p: Array = np.where(varied, 2 * stats.t.sf(t, seeds - 1), without)
    return p


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down procedure.

    Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979. With adjusted values of at most
    0.05 taken as shown, any wrong one among them has a probability of at most 0.05.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(p)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = largest
    return adjusted


def tested(differences: Sequence[float]) -> bool:
    """Whether there are differences to judge by: of two seeds at least, since one has no spread, and finite in each."""
    return len(differences) > 1 and bool(np.isfinite(differences).all())


@dataclass(frozen=True)
class Judgement:
    """A comparison and what it shows.

    Attributes:
        text: What is compared.
        differences: One for each seed; above 0 as claimed. Empty, of one seed, or of a run without a finite value: not
            tested.
        p: Two-sided, of the paired t-test; NaN where nothing was tested.
        adjusted: The same after Holm's correction over the page.
        null_rate: How often the comparison, uncorrected, would say *holds* in runs without any effect. By its
            level: 0.025.
        without_runs: The arms of which no run has ended.
    """

    text: str
    differences: tuple[float, ...]
    p: float
    adjusted: float
    null_rate: float
    without_runs: tuple[str, ...] = ()

    @property
    def tested(self) -> bool:
        """Whether there are differences of two seeds or more, all of them finite."""
        return tested(self.differences)

    @property
    def mean(self) -> float:
        """The mean difference; NaN of none."""
        return float(np.mean(self.differences)) if self.differences else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % confidence interval of the mean by Student's t, not corrected; infinite of one seed."""
        seeds = len(self.differences)
        if seeds < 2:
            return -np.inf, np.inf
        error = float(np.std(self.differences, ddof=1)) / np.sqrt(seeds)
        reach = float(stats.t.ppf(1 - LEVEL / 2, seeds - 1)) * error
        return self.mean - reach, self.mean + reach

    @property
    def verdict(self) -> Verdict:
        """``holds``, ``fails`` (shown to be the other way round), ``undecided`` or ``not tested``.

        A comparison that says *holds* too often without effect decides nothing.
        """
        if not self.tested:
            return "not tested"
        if self.adjusted > LEVEL or self.null_rate > LEVEL:
            return "undecided"
        return "holds" if self.mean > 0 else "fails"


def judge(
    comparisons: Sequence[tuple[str, tuple[float, ...], float]],
    alike: Sequence[float | None] | None = None,
) -> list[Judgement]:
    """Judge all comparisons of a page together, since the more there are, the more seem to show something.

    Args:
        comparisons: For each its text, its differences by seed, and how often it says *holds* without effect.
        alike: For each the p-value of differences without a spread, see :func:`p_values`. None: None of each.

    Example:
        >>> first, second = judge([("a > b", (1.0, 1.1, 1.2), 0.025), ("b > c", (-1.0, 3.0), 0.025)])
        >>> first.verdict, second.verdict
        ('holds', 'undecided')
    """
    p = [
        float(p_values(np.array(differences), same)) if tested(differences) else float("nan")
        for (_, differences, _), same in zip(
            comparisons, alike or [None] * len(comparisons), strict=True
        )
    ]
    told = [i for i, (_, differences, _) in enumerate(comparisons) if tested(differences)]
    adjusted = dict(zip(told, holm([p[i] for i in told]), strict=True))
    return [
        Judgement(text, differences, p[i], adjusted.get(i, float("nan")), rate)
        for i, (text, differences, rate) in enumerate(comparisons)
    ]


def claim_verdict(judgements: Sequence[Judgement]) -> str:
    """A claim's verdict by its comparisons, with their counts.

    It holds if all hold, fails if one fails, and is undecided otherwise.

    Example:
        >>> claim_verdict(judge([("a > b", (1.0, 1.1, 1.2), 0.025), ("b > c", (), 0.025)]))
        'undecided (1 holds, 1 not tested)'
    """
    found = [one.verdict for one in judgements]
    if set(found) <= {"not tested"}:
        return "not tested"
    words: tuple[Verdict, ...] = ("holds", "fails", "undecided", "not tested")
    counts = ", ".join(f"{found.count(word)} {word}" for word in words if word in found)
    whole = "holds" if set(found) == {"holds"} else "fails" if "fails" in found else "undecided"
    return f"{whole} ({counts})"
