"""Silhouette: how much nearer answers are to their own cluster than to the next one."""

from __future__ import annotations

import numpy as np

from lit_fed.methods.semantic_consensus.ballots import Floats, Integers


def silhouette(cosines: Floats, clusters: Integers) -> float:
    """The mean silhouette of a prompt's answers on their cosine distances.

    Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis" (1987). It is
    that of ``sklearn.metrics.silhouette_score``, whose checks would take several times as long as all else.

    Args:
        cosines: [N, N].
        clusters: [N], from 0, none of them empty.

    Returns:
        In [-1, 1], 0 for an answer alone in its cluster; NaN where it is not defined: fewer than two clusters, or as
        many as answers.

    Example:
        >>> silhouette(np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.1], [0.1, 0.1, 1.0]]), np.array([0, 0, 1]))
        0.592...
    """
    members = np.eye(clusters.max() + 1)[clusters]
    sizes = members.sum(0)
    if not 1 < len(sizes) < len(clusters):
        return float("nan")
    sums = (1 - cosines) @ members
    own = members.astype(bool)
    within = sums[own] / np.maximum(sizes[clusters] - 1, 1)
    nearest = np.where(own, np.inf, sums / sizes).min(1)
    largest = np.maximum(within, nearest)
    # Answers that are all the same have no distance to divide by.
    values = np.where(largest > 0, (nearest - within) / np.where(largest > 0, largest, 1), 0.0)
    return float(np.where(sizes[clusters] > 1, values, 0.0).mean())
