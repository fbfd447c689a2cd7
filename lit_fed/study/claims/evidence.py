"""The figures of a study's runs that claims are held against."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from lit_fed.study.claims.claim import ArmComparison, Condition, CurveComparison, Direction
from lit_fed.study.claims.curve_statistics import part_of, statistic_of
from lit_fed.study.claims.judgement import ROUNDING
from lit_fed.study.run import Run

_FEWEST_POINTS = 3


def runs_of(root: Path, arm: str) -> Iterator[Run]:
    """The arm's runs that have ended, by seed.

    Args:
        root: The study's folder.
        arm: Folder below it, which holds ``seed_<seed>``: a name and, of a sweep or of variants,
            ``/<setting>=<value>``.
    """
    name, _, own = arm.partition("/")
    value = own.partition("=")[2] or None
    folders = (root / arm).glob("seed_*")
    for folder in sorted(folders, key=lambda one: int(one.name.removeprefix("seed_"))):
        seed = int(folder.name.removeprefix("seed_"))
        run = Run(Path(name), seed, folder, value=value, arm=name)
        if run.summary is not None:
            yield run


def arm_differences(
    root: Path,
    comparison: ArmComparison,
    metric: str,
    better: Direction,
    otherwise: str | None = None,
) -> tuple[float, ...]:
    """The comparison's weighted sum and margin for each seed that all its arms have; above 0 is as claimed.

    What is 0 but for rounding is 0, and NaN where a run has ended with no finite value, or with no amount above 0 where
    amounts are compared by a factor.

    Args:
        root: The study's folder.
        comparison: Arms and weights.
        metric: Name as :meth:`Run.figure` takes it.
        better: Which values are better.
        otherwise: The metric of runs that have no ``metric``.
    """
    found = {arm: _finals(root, arm, metric, otherwise) for arm in comparison.weights}
    seeds = sorted(set.intersection(*(set(values) for values in found.values())))
    sign = 1.0 if better == "higher" else -1.0
    if comparison.times is None:
        allowance = comparison.margin
    else:  # amounts by their logarithms
        allowance = -math.log10(comparison.times)
        found = {arm: {s: _log10(v) for s, v in own.items()} for arm, own in found.items()}
    terms = [
        [allowance, *(sign * w * found[arm][seed] for arm, w in comparison.weights.items())]
        for seed in seeds
    ]
    return tuple(
        0.0 if abs(sum(own)) <= ROUNDING * sum(map(abs, own)) else sum(own) for own in terms
    )


def arms_without_runs(root: Path, comparison: ArmComparison) -> list[str]:
    """The arms of a comparison of which no run has ended.

    Args:
        root: The study's folder.
        comparison: Arms and weights.
    """
    return [arm for arm in comparison.weights if next(runs_of(root, arm), None) is None]


def _log10(amount: float) -> float:
    return math.log10(amount) if amount > 0 else math.nan


def unmet(root: Path, condition: Condition) -> str | None:
    """Where a condition is not met, or nothing tells whether it is, what is missing; None where it is met.

    Args:
        root: The study's folder.
        condition: The condition.
    """
    for metric in condition.metrics:
        found = {arm: _finals(root, arm, metric) for arm in condition.weights}
        if untold := [arm for arm, values in found.items() if not values]:
            return f"not tested ({metric} of {untold[0]} is missing)"
        terms = [w * float(np.mean([*found[arm].values()])) for arm, w in condition.weights.items()]
        if not condition.met(sum(terms)):
            arms = " and ".join(condition.weights)
            return f"no {condition.text} ({metric} of {arms}: {sum(terms):.2f})"
    return None


def curve_differences(root: Path, comparison: CurveComparison) -> tuple[tuple[float, ...], int]:
    """The comparison's weighted sum for each seed, and the points of a curve.

    Args:
        root: The study's folder.
        comparison: Curves and weights.

    Returns:
        Nothing and 0 where curves are missing or a part has fewer than three points.
    """
    curves: dict[int, dict[str, dict[float, float]]] = {}
    for term in comparison.terms:
        for seed, curve in _curves(root, comparison, term.metric).items():
            curves.setdefault(seed, {})[term.metric] = curve
    metrics = {term.metric for term in comparison.terms}
    whole = {seed: own for seed, own in curves.items() if own.keys() == metrics}
    if not whole:
        return (), 0
    # the points that every curve has: halves of different lengths could not be compared
    common = sorted(set.intersection(*(set(c) for own in whole.values() for c in own.values())))
    parts = {term.part for term in comparison.terms}
    if min(part_of(np.array(common), part).size for part in parts) < _FEWEST_POINTS:
        return (), 0
    differences = []
    for _, own in sorted(whole.items()):
        value = 0.0
        for term in comparison.terms:
            values = np.array([own[term.metric][x] for x in common])
            part = part_of(values, term.part)
            value += term.weight * float(statistic_of(part, comparison.statistic))
        differences.append(value)
    return tuple(differences), len(common)


def _finals(root: Path, arm: str, metric: str, otherwise: str | None = None) -> Mapping[int, float]:
    found: dict[int, float] = {}
    for run in runs_of(root, arm):
        for name in (metric, otherwise):
            if name is not None and (value := run.figure(name)) is not None:
                found[run.seed] = value
                break
    return found


def _curves(root: Path, comparison: CurveComparison, metric: str) -> dict[int, dict[float, float]]:
    """The metric against rounds or swept values, by seed."""
    found: dict[int, dict[float, float]] = {}
    if comparison.over == "rounds":
        for run in runs_of(root, comparison.arm):
            curve = {row["round"]: row[metric] for row in run.history if metric in row}
            if curve:
                found[run.seed] = curve
        return found
    for folder in (root / comparison.arm).glob(f"{comparison.over}=*"):
        value = float(folder.name.partition("=")[2])
        for seed, final in _finals(root, f"{comparison.arm}/{folder.name}", metric).items():
            found.setdefault(seed, {})[value] = final
    return found
