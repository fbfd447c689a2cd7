import math

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from lit_fed.methods.semantic_consensus.selectors.silhouette import silhouette


@pytest.mark.parametrize("clusters", [2, 3, 7])
def test_against_scikit_learn(clusters: int) -> None:
    generator = np.random.default_rng(clusters)
    vectors = generator.normal(size=(12, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.concatenate([np.arange(clusters), generator.integers(0, clusters, 12 - clusters)])
    expected = silhouette_score(vectors, labels, metric="cosine")
    assert silhouette(vectors @ vectors.T, labels) == pytest.approx(expected)


def test_where_it_is_not_defined() -> None:
    for labels in ([0, 0, 0], [0, 1, 2], [0]):
        n = len(labels)
        assert math.isnan(silhouette(np.eye(n), np.array(labels)))


def test_answers_without_any_distance() -> None:
    assert silhouette(np.ones((4, 4)), np.array([0, 0, 1, 1])) == 0
