"""CUBE: rows are dropped that fall into another dense cluster than most of their label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lit_fed.defenses.clustering_defense import ClusteringDefense
from lit_fed.defenses.representation import Representation
from lit_fed.limits import require_at_least


def outside_largest_cluster(
    clusters: npt.NDArray[np.integer], labels: npt.NDArray[np.integer]
) -> npt.NDArray[np.bool_]:
    """Which rows are outside the cluster that holds at least half of their label's rows.

    Args:
        clusters: The cluster of each row, −1 for those in none, [n].
        labels: The class of each row, [n].

    Returns:
        bool [n]; all false for a label of which no cluster holds half.

    Example:
        >>> clusters, labels = np.array([0, 0, 0, 1, -1, 1, 1, 0]), np.array([0] * 5 + [1] * 3)
        >>> outside_largest_cluster(clusters, labels).tolist()
        [False, False, False, True, True, False, False, True]
    """
    found = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = labels == label
        names, counts = np.unique(clusters[own & (clusters >= 0)], return_counts=True)
        if len(names) and 2 * counts.max() >= own.sum():
            found |= own & (clusters != names[counts.argmax()])
    return found


class CUBE(ClusteringDefense):
    """Clusters all rows of a client by density, and keeps of each label the largest cluster alone.

    After Cui et al., "A Unified Evaluation of Textual Backdoor Learning: Frameworks and Benchmarks", 2022,
    https://arxiv.org/abs/2206.08514, §4: the representations of a model that is fitted on the rows are reduced and
    clustered by HDBSCAN, and of each label only the largest cluster is kept. Reduced here by principal components in
    the place of UMAP. A label of which no cluster holds half of the rows is left alone; the public code takes the rows
    in no cluster for a cluster that may be the one which is kept.

    Args:
        representation: What makes vectors of rows. None: the embedded encoder, fitted on the client's rows.
        components: Principal components; at most as many as there are rows and dimensions.
        min_cluster_size: Rows that make a cluster, at least 2.
        text: The column of the text. None: the text, or both texts, that the model reads.
        text_pair: The column of the second text, where ``text`` is named. None: there is one text.
        label: The column of the labels. None: that of the data's encoding.
        clients: Ids of the clients that it acts on. None: all.
        seed: Of the representation.

    Raises:
        ValueError: If a number is out of range, or a client has fewer rows than make a cluster.

    Example:
        >>> draw = np.random.default_rng(0)
        >>> vectors = np.concatenate([draw.normal(x, 1, (20, 4)) for x in (0, 20, 40)])
        >>> labels = np.repeat([0, 1, 1], [20, 35, 5])
        >>> CUBE(components=2, min_cluster_size=5).suspects(vectors, labels).nonzero()[0].tolist()
        [40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59]
    """

    def __init__(
        self,
        representation: Representation | None = None,
        components: int = 10,
        min_cluster_size: int = 5,
        text: str | None = None,
        text_pair: str | None = None,
        label: str | None = None,
        clients: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(representation, text, text_pair, label, clients, seed)
        self.components = require_at_least("CUBE.components", components, 1)
        self.min_cluster_size = require_at_least("CUBE.min_cluster_size", min_cluster_size, 2)

    def suspects(
        self, vectors: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Rows outside the largest cluster of their label, see :func:`outside_largest_cluster`."""
        from sklearn.cluster import HDBSCAN
        from sklearn.decomposition import PCA

        if len(vectors) < self.min_cluster_size:
            raise ValueError(
                f"CUBE is expected to have at least the {self.min_cluster_size} rows that make a cluster "
                f"(`min_cluster_size`), but there are {len(vectors)}"
            )
        points = np.asarray(vectors, np.float64)
        reduced = PCA(min(self.components, *points.shape), svd_solver="full").fit_transform(points)
        size = self.min_cluster_size
        clusters = HDBSCAN(size, allow_single_cluster=True, copy=True).fit_predict(reduced)
        return outside_largest_cluster(clusters, labels)
