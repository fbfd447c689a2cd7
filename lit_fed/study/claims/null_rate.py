"""How often a comparison says *holds* in runs in which nothing has an effect."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lit_fed.study.claims.claim import ArmComparison, CurveComparison
from lit_fed.study.claims.curve_statistics import part_of, statistic_of
from lit_fed.study.claims.judgement import LEVEL, p_values

Array = NDArray[np.float64]
ALIKE = 0.0
"""The p-value of curves that are alike in all seeds: how often chance makes them so is simulated."""
_SIMULATIONS = 4000
_SEED = 0


def arms_null_rate(comparison: ArmComparison, seeds: int) -> float:
    """Share of simulated studies of equal arms, with normal noise, in which the comparison says *holds*.

    Args:
        comparison: The comparison.
        seeds: Seeds of a study.
    """
    noise = np.random.default_rng(_SEED).normal(size=(_SIMULATIONS, seeds, len(comparison.weights)))
    return _share(noise @ np.array(list(comparison.weights.values())))


def curves_null_rate(comparison: CurveComparison, seeds: int, points: int) -> float:
    """The same of curves that go nowhere.

    A curve is white noise or a random walk, without drift; curves of several metrics are independent. The
    larger share is returned.

    Args:
        comparison: The comparison.
        seeds: Seeds of a study.
        points: Points of a curve.
    """
    generator = np.random.default_rng(_SEED)
    metrics = list(dict.fromkeys(term.metric for term in comparison.terms))
    noise = generator.normal(size=(_SIMULATIONS, len(metrics), seeds, points))
    rates = []
    for curves in (noise, noise.cumsum(-1)):
        found = np.zeros((_SIMULATIONS, seeds))
        for term in comparison.terms:
            curve = part_of(curves[:, metrics.index(term.metric)], term.part)
            found += term.weight * statistic_of(curve, comparison.statistic)
        # ranks of few points are alike by chance, which is seen here
        rates.append(_share(found, ALIKE))
    return max(rates)


def _share(differences: Array, alike: float | None = None) -> float:
    holds = (p_values(differences, alike) <= LEVEL) & (differences.mean(-1) > 0)
    return float(holds.mean())
