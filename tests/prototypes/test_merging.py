"""Adapting, merging and drifting prototypes beside NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lit_fed.prototypes import (
    PrototypeSet,
    adapt_prototypes,
    merge_prototypes,
    prototype_drift,
    share_beyond,
)


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def prototypes() -> PrototypeSet:
    vectors = unit(np.random.default_rng(0).normal(size=(3, 4)))
    classes = torch.tensor([0, 1, 1])
    return PrototypeSet(torch.tensor(vectors).float(), classes, classes, 2, "e1")


def test_a_client_moves_those_that_it_has_rows_for() -> None:
    own, states = prototypes(), np.random.default_rng(1).normal(size=(9, 4))
    nearest = (unit(states) @ own.vectors.numpy().T).argmax(1)
    nearest[nearest == 2] = 0
    found = adapt_prototypes(own, torch.tensor(states), 0.25, torch.tensor(nearest))
    for place in range(3):
        mine = unit(states)[nearest == place]
        expected = own.vectors[place].numpy()
        if len(mine):
            expected = unit(0.75 * expected + 0.25 * mine.mean(0))
        np.testing.assert_allclose(found.vectors[place], expected, atol=1e-6)
    assert found.counts.tolist() == np.bincount(nearest, minlength=3).tolist()
    assert torch.equal(adapt_prototypes(own, torch.zeros(0, 4), 0.5).vectors, own.vectors)


def test_merging_is_the_mean_weighted_by_counts() -> None:
    before, draw = prototypes(), np.random.default_rng(2)
    counts = np.array([[4, 0, 0], [1, 2, 0]])
    vectors = unit(draw.normal(size=(2, 3, 4)))
    clients = [
        replace(before, vectors=torch.tensor(v).float(), counts=torch.tensor(n))
        for v, n in zip(vectors, counts, strict=True)
    ]
    merged = merge_prototypes(before, clients)
    expected = unit((counts[..., None] * vectors).sum(0)[:2])
    np.testing.assert_allclose(merged.vectors[:2], expected, atol=1e-6)
    # The last one, which nobody has rows for, stays.
    assert torch.equal(merged.vectors[2], before.vectors[2])
    assert (merged.version, merged.counts.tolist()) == (3, [5, 2, 0])
    again = merge_prototypes(before, clients[::-1])
    torch.testing.assert_close(again.vectors, merged.vectors)


def test_what_cannot_be_merged_is_named() -> None:
    before = prototypes()
    for other, what in (
        (replace(before, version=1), "the version 2 of those that are merged, but have 1"),
        (replace(before, encoder="e2"), "the encoder e1 of those that are merged, but have e2"),
    ):
        with pytest.raises(ValueError, match=what):
            merge_prototypes(before, [before, other])
    with pytest.raises(ValueError, match=r"`share` is expected to be from 0 to 1, but got 2"):
        adapt_prototypes(before, torch.ones(1, 4), 2.0)


def test_drift_and_the_share_beyond_agree_with_numpy() -> None:
    before, states = prototypes(), np.random.default_rng(3).normal(size=(30, 4))
    after = adapt_prototypes(before, torch.tensor(states), 0.7)
    cosines = (before.vectors.numpy() * after.vectors.numpy()).sum(1)
    assert prototype_drift(before, after) == pytest.approx(1 - cosines.mean(), abs=1e-6)
    assert prototype_drift(after, before) == pytest.approx(prototype_drift(before, after))
    distances = 1 - (unit(states) @ before.vectors.numpy().T).max(1)
    assert share_beyond(before, torch.tensor(states), 0.2) == pytest.approx(
        (distances > 0.2).mean()
    )
    unknown = torch.tensor(states).index_fill(0, torch.tensor([4]), torch.nan)
    with pytest.raises(ValueError, match=r"`states` are expected to be finite, but number 4, "):
        share_beyond(before, unknown, 0.2)
    with pytest.raises(ValueError, match=r"two versions of the same prototypes"):
        prototype_drift(before, replace(after, encoder="e2"))
