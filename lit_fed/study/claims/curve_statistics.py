"""Statistics of curves that are 0 on average where nothing happens, whatever the curve's scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from lit_fed.study.claims.claim import Part, Statistic

Array = NDArray[np.float64]


def part_of(curve: Array, part: Part) -> Array:
    """A part of curves; the halves share the middle.

    Args:
        curve: ``[..., points]``.
        part: Which.

    Example:
        >>> part_of(np.arange(5.0), "first half"), part_of(np.arange(4.0), "second half")
        (array([0., 1., 2.]), array([1., 2., 3.]))
    """
    count = curve.shape[-1] // 2 + 1
    if part == "first half":
        return curve[..., :count]
    return curve[..., -count:] if part == "second half" else curve


def statistic_of(curve: Array, statistic: Statistic) -> Array:
    """A statistic of curves; 0 of a constant one, NaN of one with a point that is not finite.

    Args:
        curve: ``[..., points]``, in the order of the rounds or values.
        statistic: Which; see :class:`~lit_fed.study.claims.CurveComparison`.

    Returns:
        ``[...]``.

    Example:
        >>> curve = np.array([[0.0, 6.0, 9.0, 10.0], [0.0, 6.0, 5.0, 9.0]])
        >>> statistic_of(curve, "rise").tolist()
        [1.0, 0.8]
        >>> statistic_of(curve, "wavering").tolist()
        [0.0, 0.18181818181818182]
    """
    known = np.asarray(np.isfinite(curve).all(-1))
    return np.where(known, _statistic_of(np.where(known[..., None], curve, 0.0), statistic), np.nan)


def _statistic_of(curve: Array, statistic: Statistic) -> Array:
    if statistic == "wavering":
        way = np.abs(np.diff(curve, axis=-1)).sum(-1)
        led = np.abs(curve[..., -1] - curve[..., 0])
        lost: Array = np.divide(way - led, way, out=np.zeros_like(way), where=way > 0)
        return lost
    rise = _rank_correlation(curve)
    return np.abs(rise) if statistic == "steepness" else rise


def _rank_correlation(curve: Array) -> Array:
    """Spearman's correlation with the points' order."""
    ranks = rankdata(curve, axis=-1)
    places = np.arange(curve.shape[-1], dtype=np.float64)
    x, y = places - places.mean(), ranks - ranks.mean(-1, keepdims=True)
    norm = np.sqrt((x**2).sum() * (y**2).sum(-1))
    correlation: Array = np.divide((x * y).sum(-1), norm, out=np.zeros_like(norm), where=norm > 0)
    return correlation
