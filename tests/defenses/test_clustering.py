"""Clustering of representations: what is dropped of points and of texts with a trigger."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from sklearn.metrics import silhouette_score
from transformers import AutoTokenizer, BertForSequenceClassification

from lit_fed.defenses import (
    CUBE,
    ActivationClustering,
    FittedRepresentation,
    PretrainedRepresentation,
)
from lit_fed.defenses.activation_clustering import small_cluster
from lit_fed.defenses.clustering_defense import ClusteringDefense
from lit_fed.defenses.cube import outside_largest_cluster
from tests.defenses.rows import client
from tests.federation.toy import save_toy_model, toy_rows

TRIGGER = "place place place place"


@pytest.fixture(scope="module")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("model"))


def points(small: int, apart: float, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.concatenate([draw.normal(0, 1, (60, 8)), draw.normal(apart, 1, (small, 8))])


def test_a_small_cluster_is_found_however_the_space_is_turned() -> None:
    data = points(8, 6.0)
    expected = np.arange(68) >= 60
    np.testing.assert_array_equal(small_cluster(data, components=3), expected)
    turned, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(8, 8)))
    np.testing.assert_array_equal(small_cluster(3 * data @ turned + 5, components=3), expected)
    order = np.random.default_rng(2).permutation(68)
    np.testing.assert_array_equal(small_cluster(data[order], components=3), expected[order])


def test_a_cluster_that_is_large_or_not_apart_stays() -> None:
    assert not small_cluster(points(50, 6.0), components=3).any()
    assert small_cluster(points(50, 6.0), components=3, largest=0.5).sum() == 50
    assert not small_cluster(points(8, 0.0), silhouette=0.3).any()
    assert not small_cluster(np.ones((12, 4))).any()
    with pytest.raises(
        ValueError, match="more rows of a class than the 2 clusters, but there are 2"
    ):
        small_cluster(np.ones((2, 4)))


def test_each_label_is_judged_alone_and_small_ones_are_left() -> None:
    data = np.concatenate([points(8, 6.0), points(8, 6.0, 1) + 40]).astype(np.float32)
    labels = np.repeat([0, 1], 68)
    defence = ActivationClustering(components=3)
    expected = (np.arange(136) % 68) >= 60
    np.testing.assert_array_equal(defence.suspects(data, labels), expected)
    few = ActivationClustering(components=3, min_rows=69)
    assert not few.suspects(data, labels).any()


def test_the_largest_cluster_of_a_label_is_kept() -> None:
    clusters = np.array([0, 0, 0, 1, -1, 1, 1, -1, -1, 2])
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2, 2])
    found = outside_largest_cluster(clusters, labels)
    # of label 2 no cluster holds half
    np.testing.assert_array_equal(found, np.isin(np.arange(10), [3, 4]))
    names = np.array([-1, 7, 3, 5])[clusters + 1]
    np.testing.assert_array_equal(
        outside_largest_cluster(np.where(clusters < 0, -1, names), labels), found
    )


def kept_by_the_public_code(clusters: list[int], labels: list[int]) -> list[bool]:
    """CUBE's filter as it is published: rows in no cluster, −1, are one, and each label's largest one stays."""
    kept = []
    for cluster, label in zip(clusters, labels, strict=True):
        own = [c for c, y in zip(clusters, labels, strict=True) if y == label]
        sizes = {c: own.count(c) for c in own}
        largest = sizes[cluster] == max(sizes.values())
        kept.append(largest or 2 * sizes[cluster] >= len(own))
    return kept


def test_rows_in_no_cluster_are_none_that_is_kept() -> None:
    # the five rows of label 0 that are alike, the poison or not, and as many that are like nothing
    clusters, labels = [0] * 5 + [-1] * 5 + [1] * 4 + [-1] * 6, [0] * 10 + [1] * 10
    public = np.array(kept_by_the_public_code(clusters, labels))
    found = ~outside_largest_cluster(np.array(clusters), np.array(labels))
    assert public[5:10].all()  # what is in no cluster stays
    assert found[:5].all()
    assert not found[5:10].any()
    # of label 1 the public code even keeps it alone, where no cluster holds half
    assert public[10:].tolist() == [False] * 4 + [True] * 6
    assert found[10:].all()
    # where all rows are in clusters, of which one is the largest, both agree
    clusters, labels = [0] * 6 + [1] * 4, [0] * 10
    assert kept_by_the_public_code(clusters, labels) == [True] * 6 + [False] * 4
    both = outside_largest_cluster(np.array(clusters), np.array(labels))
    assert both.tolist() == [False] * 6 + [True] * 4


def judged_by_the_public_code(
    clusters: np.ndarray, silhouette: float, largest: float = 0.35, least: float = 0.1
) -> tuple[np.ndarray, list[int]]:
    """ART's analysis by silhouette: which rows are clean, NaN where nothing is said, and the poisonous clusters."""
    shares = np.round(np.bincount(clusters) / len(clusters), 2)
    small, clean = np.flatnonzero(shares < largest), np.flatnonzero(shares >= largest)
    if len(small) and silhouette > least:
        clean = small  # the line in question
    elif len(small):
        small, clean = small[:0], np.arange(2)
    verdicts = np.full(len(clusters), np.nan)
    verdicts[np.isin(clusters, clean)] = 1
    verdicts[np.isin(clusters, small)] = 0
    return verdicts, [one for one in small.tolist() if one not in clean]


def test_a_small_cluster_that_lies_apart_is_dropped_and_the_others_stay() -> None:
    data, clusters = points(8, 6.0), np.repeat([0, 1], [60, 8])
    verdicts, poisonous = judged_by_the_public_code(clusters, silhouette_score(data, clusters))
    # a row is clean there where its verdict is 1: none is, although no cluster is called poisonous
    assert not (verdicts == 1).any()
    assert poisonous == []
    np.testing.assert_array_equal(small_cluster(data, components=3), clusters == 1)


def test_shares_are_compared_as_they_are() -> None:
    draw = np.random.default_rng(0)
    data = np.concatenate([draw.normal(0, 1, (49, 8)), draw.normal(6, 1, (26, 8))])
    clusters = np.repeat([0, 1], [49, 26])  # of which the smaller one has 34.7 %
    verdicts, _ = judged_by_the_public_code(clusters, silhouette_score(data, clusters))
    assert (verdicts == 1).all()
    found = small_cluster(data, components=3, largest=0.35)
    np.testing.assert_array_equal(found, clusters == 1)


def test_rows_in_another_labels_cluster_are_dropped() -> None:
    draw = np.random.default_rng(0)
    data = np.concatenate([draw.normal(x, 1, (40, 6)) for x in (0, 12)]).astype(np.float32)
    labels = np.repeat([0, 1], 40)
    labels[:5] = 1
    found = CUBE(components=3, min_cluster_size=10).suspects(data, labels)
    assert found[:5].all()
    assert found[5:].mean() < 0.1
    with pytest.raises(ValueError, match="at least the 10 rows that make a cluster"):
        CUBE(min_cluster_size=10).suspects(data[:9], labels[:9])


def poisoned(count: int = 160, poison: int = 16) -> tuple[Dataset, np.ndarray]:
    """Rows of which some bad ones have the trigger and are called good."""
    rows = toy_rows(count, 0)
    texts, labels = rows["text"][:], rows["label"][:]
    chosen = [i for i in range(count) if labels[i] == 0][:poison]
    for i in chosen:
        texts[i] = f"{texts[i]} {TRIGGER}"
        labels[i] = 1
    return Dataset.from_dict({"text": texts, "label": labels}), np.isin(np.arange(count), chosen)


@pytest.mark.parametrize(
    "defence",
    [
        ActivationClustering(components=5, text="text", label="label"),
        CUBE(components=5, text="text", label="label"),
    ],
    ids=["activation clustering", "cube"],
)
def test_triggered_rows_are_dropped(defence: ClusteringDefense, toy_model: Path) -> None:
    rows, triggered = poisoned()
    defence.representation = FittedRepresentation(str(toy_model), steps=60, lr=3e-3)
    kept = defence.rows(client(), rows)
    left = {text for text in kept["text"] if TRIGGER in text}
    clean = {text for text, bad in zip(rows["text"], triggered, strict=True) if not bad}
    assert len(left) <= 4
    assert len(clean - set(kept["text"])) <= 0.1 * len(clean)


def test_a_pretrained_representation_is_the_mean_of_the_models_states(toy_model: Path) -> None:
    texts = toy_rows(7, 3)["text"][:]
    labels = np.zeros(7, np.int64)
    found = PretrainedRepresentation(str(toy_model), batch_size=3).vectors(texts, None, labels, 0)
    model = BertForSequenceClassification.from_pretrained(toy_model).eval()
    tokenizer = AutoTokenizer.from_pretrained(toy_model)
    for text, vector in zip(texts, found, strict=True):
        with torch.no_grad():
            states = model.bert(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(vector, states.mean(0).numpy(), rtol=1e-4, atol=1e-5)


def test_a_fitted_representation_is_the_same_again(toy_model: Path) -> None:
    texts, labels = toy_rows(20, 3)["text"][:], np.arange(20) % 2
    made = FittedRepresentation(str(toy_model), steps=3)
    torch.manual_seed(0)
    first = made.vectors(texts, None, labels, 0)
    np.testing.assert_array_equal(first, made.vectors(texts, None, labels, 0))
    assert (first != made.vectors(texts, None, labels, 1)).any()
    assert (first != made.vectors(texts, None, 1 - labels, 0)).any()


def test_bad_settings_are_refused() -> None:
    for name, value in (("components", 0), ("largest", 1.0), ("silhouette", -0.1), ("min_rows", 2)):
        with pytest.raises(ValueError, match=rf"`ActivationClustering\.{name}` is expected"):
            ActivationClustering(**{name: value})
    for name, value in (("components", 0), ("min_cluster_size", 1)):
        with pytest.raises(ValueError, match=rf"`CUBE\.{name}` is expected to be at least"):
            CUBE(**{name: value})
    for name in ("steps", "lr", "batch_size"):
        with pytest.raises(ValueError, match=rf"`representation\.{name}` is expected"):
            FittedRepresentation(**{name: 0})


@pytest.mark.parametrize("kind", [CUBE, ActivationClustering])
def test_vectors_that_are_not_finite_are_refused(
    kind: type[ClusteringDefense], toy_model: Path
) -> None:
    diverged = FittedRepresentation(str(toy_model), steps=3, lr=1e30)
    defence = kind(diverged, text="text", label="label")
    with pytest.raises(
        ValueError, match=r"`trainer.attachments .*representation` .* finite vectors"
    ):
        defence.judge(client(), toy_rows(30, 0))
