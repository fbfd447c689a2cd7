"""Activation clustering: a small cluster that lies apart from the other rows of its label is dropped."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from lit_fed.defenses.clustering_defense import ClusteringDefense
from lit_fed.defenses.representation import Representation
from lit_fed.limits import require_at_least, require_fraction, require_share

_CLUSTERS: Final = 2


def small_cluster(
    vectors: npt.NDArray[np.floating],
    components: int = 10,
    largest: float = 0.35,
    silhouette: float = 0.1,
    seed: int = 0,
) -> npt.NDArray[np.bool_]:
    """Which of one class's rows are in a small cluster of their own.

    Args:
        vectors: The rows' representations, [n, d].
        components: Independent components to which they are reduced; at most d and n − 1.
        largest: Share of the rows that the smaller cluster has at most, from 0 to 1.
        silhouette: Silhouette of the two clusters from which on there are two, from −1 to 1.
        seed: Of the components and the clusters.

    Returns:
        bool [n]; all false where the smaller cluster is larger than that, or does not lie apart.

    Raises:
        ValueError: If there are fewer rows than the 2 clusters need, which is 3.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> apart = np.concatenate([draw.normal(0, 1, (40, 6)), draw.normal(9, 1, (5, 6))])
        >>> small_cluster(apart, components=2).nonzero()[0].tolist()
        [40, 41, 42, 43, 44]
        >>> small_cluster(apart[:40], components=2).any()
        np.False_
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import silhouette_score

    n = len(vectors)
    if n <= _CLUSTERS:
        raise ValueError(
            f"activation clustering is expected to have more rows of a class than the {_CLUSTERS} clusters, but there "
            f"are {n}"
        )
    points = np.asarray(vectors, np.float64)
    # directions in which rows differ by rounding alone would be made as long as all others
    rank = int(np.linalg.matrix_rank(points - points.mean(0)))
    if rank == 0:
        return np.zeros(n, bool)
    with warnings.catch_warnings():
        # components that have not settled are components all the same
        warnings.simplefilter("ignore", ConvergenceWarning)
        reduced = FastICA(min(components, rank), random_state=seed).fit_transform(points)
    clusters = KMeans(_CLUSTERS, n_init=10, random_state=seed).fit_predict(reduced)
    sizes = np.bincount(clusters, minlength=_CLUSTERS)
    smaller = int(sizes.argmin())
    if not 0 < sizes[smaller] <= largest * n:
        return np.zeros(n, bool)
    if silhouette_score(reduced, clusters) < silhouette:
        return np.zeros(n, bool)
    return np.asarray(clusters == smaller)


class ActivationClustering(ClusteringDefense):
    """Divides the rows of each label into two clusters, and drops the smaller one if it is small and lies apart.

    Chen et al., "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering", 2018,
    https://arxiv.org/abs/1811.03728, algorithm 1: the representations of a label's rows are reduced by independent
    component analysis and divided by 2-means. Of the paper's three criteria (§5) size and silhouette are used, both of
    which have to hold; the third, which trains a model anew, is not. Labels of fewer than ``min_rows`` rows are left
    alone.

    The public code, ``analyze_by_silhouette_score`` of IBM's Adversarial Robustness Toolbox 1.20, takes a small cluster
    that lies apart for the clean one as well: the rows of the large one are left without a verdict, and no cluster is
    called poisonous. It also rounds shares to two digits, so that 26 of 75 rows are not below 0.35.

    Args:
        representation: What makes vectors of rows. None: the embedded encoder, fitted on the client's rows.
        components: Independent components.
        largest: Share of a label's rows that a cluster has at most to be dropped, from 0 to below 1.
        silhouette: Silhouette of the two clusters from which on they count as two, from 0 to 1; the paper has 0.10 to
            0.15.
        min_rows: Rows of a label from which on it is judged, at least 3.
        text: The column of the text. None: the text, or both texts, that the model reads.
        text_pair: The column of the second text, where ``text`` is named. None: there is one text.
        label: The column of the labels. None: that of the data's encoding.
        clients: Ids of the clients that it acts on. None: all.
        seed: Of the representation and of the clustering.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> ActivationClustering(min_rows=2)
        Traceback (most recent call last):
        ValueError: `ActivationClustering.min_rows` is expected to be at least 3, but got 2
    """

    def __init__(
        self,
        representation: Representation | None = None,
        components: int = 10,
        largest: float = 0.35,
        silhouette: float = 0.1,
        min_rows: int = 10,
        text: str | None = None,
        text_pair: str | None = None,
        label: str | None = None,
        clients: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(representation, text, text_pair, label, clients, seed)
        name = type(self).__name__
        self.components = require_at_least(f"{name}.components", components, 1)
        self.largest = require_fraction(f"{name}.largest", largest)
        self.silhouette = require_share(f"{name}.silhouette", silhouette)
        self.min_rows = require_at_least(f"{name}.min_rows", min_rows, _CLUSTERS + 1)

    def suspects(
        self, vectors: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """The small clusters of all labels, see :func:`small_cluster`."""
        found = np.zeros(len(labels), bool)
        for label in np.unique(labels):
            places = np.flatnonzero(labels == label)
            if len(places) >= self.min_rows:
                found[places] = small_cluster(
                    vectors[places], self.components, self.largest, self.silhouette, self.seed
                )
        return found
