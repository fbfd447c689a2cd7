import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score, silhouette_score

from lit_fed.methods.semantic_consensus import Ballots, ClusterMedoid
from lit_fed.methods.semantic_consensus.selectors.cluster_medoid import clusters_of
from tests.methods.semantic_consensus.votes import GivenVectors, ballots, random_answers


def at(degrees: float) -> tuple[float, float]:
    """A unit vector in the plane."""
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


@pytest.mark.parametrize("clients", [3, 8, 20])
def test_against_scikit_learn_and_plain_loops(clients: int) -> None:
    encoder, votes = random_answers(clients, prompts=25, seed=clients)
    found = ClusterMedoid(encoder, threshold=0.4)(votes, seed=0)
    shares, silhouettes, counts = [], [], []
    labelled = 0
    for place, prompt in enumerate(votes.prompts()):
        vectors = np.array([encoder.vectors[a] for a in prompt.answers])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        n = len(prompt.answers)
        clusters = np.zeros(n, dtype=int)
        if n > 1:
            clusters = AgglomerativeClustering(
                None, metric="cosine", linkage="average", distance_threshold=0.4
            ).fit_predict(vectors)
        weight = {
            c: sum(w for w, k in zip(prompt.weights, clusters, strict=True) if k == c)
            for c in clusters
        }
        winner = max(weight, key=lambda c: weight[c])
        share = weight[winner] / prompt.weights.sum()
        shares.append(share)
        counts.append(len(weight))
        if 1 < len(weight) < n:
            silhouettes.append(silhouette_score(vectors, clusters, metric="cosine"))
        if share <= 0.5:
            assert found.labels[place] is None
            assert found.confidence[place] == 0
            continue
        labelled += 1
        members = [i for i in range(n) if clusters[i] == winner]
        pairs = [vectors[i] @ vectors[j] for i in members for j in members if i != j]
        centrality = {
            i: sum(prompt.weights[j] * (vectors[i] @ vectors[j]) for j in members) for i in members
        }
        medoid = max(members, key=lambda i: centrality[i])
        assert found.labels[place] == prompt.answers[medoid]
        expected = share * (np.mean(pairs) if pairs else 1)
        assert found.confidence[place].item() == pytest.approx(expected, abs=1e-5)
    assert 3 < labelled < 25
    assert found.metrics["abstain_rate"] == pytest.approx(1 - labelled / 25)
    assert found.metrics["winner_share"] == pytest.approx(np.mean(shares))
    assert found.metrics["clusters"] == pytest.approx(np.mean(counts))
    assert found.metrics["silhouette"] == pytest.approx(np.mean(silhouettes), abs=1e-5)
    assert found.metrics["threshold"] == 0.4


PLANE = GivenVectors(
    {"a": at(0), "ax": at(20), "ay": at(10), "b": at(90), "bx": at(95), "c": at(180)}
)


@pytest.mark.parametrize(
    ("answers", "label", "confidence"),
    [
        (["a"], "a", 1.0),
        ([None], None, 0.0),
        ([" "], None, 0.0),
        (["a", "b"], None, 0.0),
        (["a", "a"], "a", 1.0),
        (["ax", "a"], "ax", math.cos(math.radians(20))),
        (["a", None], "a", 1.0),
        (["a", "", "b", "b"], "b", 2 / 3),
        (
            ["a", "ay", "ax"],
            "ay",
            (2 * math.cos(math.radians(10)) + math.cos(math.radians(20))) / 3,
        ),
        (["a", "b", "c"], None, 0.0),
        (["a", "ax", "b", "bx"], None, 0.0),
        (["c", "a", "a"], "a", 2 / 3),
    ],
)
def test_few_clients(answers: list[str | None], label: str | None, confidence: float) -> None:
    found = ClusterMedoid(PLANE)(ballots([[a] for a in answers]), seed=0)
    assert found.labels == (label,)
    assert found.confidence.item() == pytest.approx(confidence, abs=1e-6)


@pytest.mark.parametrize("alike", [1, 2, 5, 12])
def test_clusters_are_those_of_scipy_however_many_answers_are_near(alike: int) -> None:
    """Also where no linkage is needed: some of the answers are all near, and the others are not."""
    draw = np.random.default_rng(alike)
    for _ in range(20):
        vectors = draw.normal(size=(12, 40))
        vectors[draw.permutation(12)[:alike]] = vectors[0] + 0.1 * draw.normal(size=(alike, 40))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, 1)
        for threshold in (0.0, 0.3, 0.9, 2.0):
            tree = linkage(squareform(1 - cosines, checks=False), method="average")
            expected = fcluster(tree, threshold + 1e-6, "distance")
            found = clusters_of(cosines, threshold)
            assert adjusted_rand_score(expected, found) == 1
            assert sorted({*found.tolist()}) == list(range(expected.max()))


def test_what_is_kept_apart_is_in_no_cluster_together() -> None:
    draw = np.random.default_rng(0)
    kept, as_without = 0, 0
    for _ in range(100):
        vectors = draw.normal(size=(9, 3))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = np.clip(vectors @ vectors.T, -1, 1)
        np.fill_diagonal(cosines, 1)
        apart = np.triu(draw.random((9, 9)) < 0.1, 1)
        apart |= apart.T
        found, without = clusters_of(cosines, 0.5, apart), clusters_of(cosines, 0.5)
        assert not (apart & (found[:, None] == found)).any()
        if (apart & (without[:, None] == without)).any():
            kept += 1
        else:
            as_without += 1
            assert found.tolist() == without.tolist()
    assert min(kept, as_without) > 10


def test_the_vote_weights_decide() -> None:
    found = ClusterMedoid(PLANE)(ballots([["a"], ["ax"], ["b"]], [[1.0], [1.0], [3.0]]), seed=0)
    assert found.labels == ("b",)
    assert found.confidence.item() == pytest.approx(0.6)
    tie = ClusterMedoid(PLANE)(ballots([["a"], ["ax"], ["b"]], [[0.1], [0.2], [0.3]]), seed=0)
    assert tie.labels == (None,)
    without = ClusterMedoid(PLANE)(ballots([["a"], ["ax"], ["b"]], [[1.0], [1.0], [0.0]]), seed=0)
    assert without.labels == ("a",)
    assert without.metrics["clusters"] == 1


def test_a_medoid_of_several_is_of_the_heaviest_vote_and_then_the_first_client() -> None:
    assert ClusterMedoid(PLANE)(ballots([["ax"], ["a"]]), seed=0).labels == ("ax",)
    weighted = ballots([["a"], ["ax"], ["ay"]], [[1.0], [1.0], [1.0]])
    assert ClusterMedoid(PLANE)(weighted, seed=0).labels == ("ay",)
    assert ClusterMedoid(PLANE)(ballots([["a"], ["ax"]], [[1.0], [2.0]]), seed=0).labels == ("ax",)
    alike = GivenVectors({"one": at(0), "two": at(0), "three": at(0)})
    weights = [[1.0], [2.0], [2.0]]
    found = ClusterMedoid(alike)(ballots([["one"], ["two"], ["three"]], weights), seed=0)
    assert found.labels == ("two",)


def test_the_cut() -> None:
    votes = ballots([["a"], ["ax"]])
    distance = 1 - math.cos(math.radians(20))
    assert ClusterMedoid(PLANE, threshold=distance - 1e-4)(votes, seed=0).labels == (None,)
    assert ClusterMedoid(PLANE, threshold=distance + 1e-4)(votes, seed=0).labels == ("a",)
    assert ClusterMedoid(PLANE)(votes, seed=0).metrics["threshold"] == PLANE.threshold


def test_a_cut_of_0_joins_the_same_texts_and_no_others() -> None:
    said = [["It is Paris."], ["It is Paris."], ["Paris, I think"], ["Rome"], ["It is Paris."]]
    found = ClusterMedoid(threshold=0)(ballots(said), seed=0)
    assert (found.labels, found.metrics["clusters"]) == (("It is Paris.",), 3)
    texts = [f"answer {n} of {n * n}" for n in range(200)]
    twice = ClusterMedoid(threshold=0)(ballots([texts, texts]), seed=0)
    assert twice.labels == tuple(texts)


def test_order_of_clients_and_prompts_plays_no_part() -> None:
    encoder, votes = random_answers(9, prompts=30, seed=1)
    votes = Ballots(votes.clients, votes.answers, torch.ones(9, 30))
    found = ClusterMedoid(encoder)(votes, seed=0)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0)).tolist()
    turned = Ballots(votes.clients, tuple(votes.answers[k] for k in order), votes.weights)
    other = ClusterMedoid(encoder)(turned, seed=1)
    # Of two answers in a cluster each is as central, and the first client's is taken.
    same = [one == two for one, two in zip(found.labels, other.labels, strict=True)]
    assert sum(same) >= 25
    torch.testing.assert_close(other.confidence, found.confidence, atol=1e-6, rtol=0)
    back = Ballots(votes.clients, tuple(row[::-1] for row in votes.answers), votes.weights)
    reversed_ = ClusterMedoid(encoder)(back, seed=0)
    assert reversed_.labels == found.labels[::-1]
    assert reversed_.metrics["silhouette"] == pytest.approx(found.metrics["silhouette"])


@pytest.mark.parametrize("threshold", [-0.1, 2.1, math.nan, "0.3", True])
def test_a_threshold_out_of_range(threshold: Any) -> None:
    with pytest.raises(
        ValueError,
        match=r"`model\.selector\.threshold` is expected to be a",
    ):
        ClusterMedoid(threshold=threshold)
