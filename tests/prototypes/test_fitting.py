"""Fitting of prototypes beside a plain spherical k-means and class means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lit_fed.prototypes import AgreementGate, PrototypeSet, fit_prototypes


def blobs(count: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors around three directions, of lengths of their own."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    states = 3 * np.eye(3, 5)[labels] + draw.normal(0, 0.3, (count, 5))
    return torch.tensor(states * draw.uniform(0.5, 4, (count, 1))).float(), torch.tensor(labels)


def cosine_objective(states: np.ndarray, vectors: np.ndarray) -> float:
    unit = states / np.linalg.norm(states, axis=1, keepdims=True)
    return float((unit @ vectors.T).max(1).sum())


def test_k_means_finds_a_fixed_point_of_lloyd_on_the_sphere() -> None:
    states, labels = blobs()
    found = fit_prototypes(states, labels, n=3, seed=0)
    unit = (states / states.norm(dim=1, keepdim=True)).numpy()
    nearest = (unit @ found.vectors.numpy().T).argmax(1)
    for place in range(3):
        mean = unit[nearest == place].mean(0)
        np.testing.assert_allclose(found.vectors[place], mean / np.linalg.norm(mean), atol=1e-5)
        assert set(labels[nearest == place].tolist()) == {int(found.classes[place])}
    assert found.counts.tolist() == np.bincount(nearest, minlength=3).tolist()


def test_it_is_as_good_as_the_best_of_many_plain_starts() -> None:
    states, _ = blobs()
    unit = (states / states.norm(dim=1, keepdim=True)).numpy()
    best, draw = 0.0, np.random.default_rng(1)
    for _ in range(50):
        centres = unit[draw.choice(len(unit), 3, replace=False)]
        for _ in range(20):
            nearest = (unit @ centres.T).argmax(1)
            means = [
                unit[nearest == j].mean(0) if (nearest == j).any() else centres[j] for j in range(3)
            ]
            centres = np.stack([m / np.linalg.norm(m) for m in means])
        best = max(best, cosine_objective(unit, centres))
    found = fit_prototypes(states, None, n=3, seed=0)
    assert cosine_objective(unit, found.vectors.numpy()) >= 0.999 * best
    assert found.classes.tolist() == [-1, -1, -1]


def test_class_means_are_those_of_numpy() -> None:
    states, labels = blobs()
    found = fit_prototypes(states, labels, n=50, seed=0, supervised=True, names=["a", "b", "c"])
    unit = (states / states.norm(dim=1, keepdim=True)).numpy()
    for label in range(3):
        mean = unit[labels.numpy() == label].mean(0)
        np.testing.assert_allclose(found.vectors[label], mean / np.linalg.norm(mean), atol=1e-6)
    assert found.classes.tolist() == [0, 1, 2]
    assert found.counts.tolist() == np.bincount(labels.numpy()).tolist()


def test_lengths_of_states_do_not_matter_and_a_seed_gives_the_same() -> None:
    states, labels = blobs()
    one = fit_prototypes(states, labels, n=6, seed=3)
    other = fit_prototypes(states * torch.arange(1.0, 41.0).unsqueeze(-1), labels, n=6, seed=3)
    torch.testing.assert_close(one.vectors, other.vectors, atol=1e-5, rtol=0)
    assert one.digest == fit_prototypes(states, labels, n=6, seed=3).digest


def test_no_cluster_is_empty_where_references_repeat() -> None:
    states = torch.cat([torch.eye(3)[:1].expand(30, 3), torch.eye(3)])
    found = fit_prototypes(states, None, n=3, seed=0)
    assert sorted(found.counts.tolist()) == [1, 1, 31]


def test_the_nearest_texts_are_those_of_numpy() -> None:
    states, labels = blobs(12)
    texts = [f"text {i}" for i in range(12)]
    found = fit_prototypes(states, labels, n=2, seed=0, texts=texts)
    unit = (states / states.norm(dim=1, keepdim=True)).numpy()
    for vector, told in zip(found.vectors.numpy(), found.references, strict=True):
        assert list(told) == [texts[i] for i in np.argsort(-(unit @ vector))[:3]]


def test_bad_references_are_named() -> None:
    states, labels = blobs(12)
    with pytest.raises(ValueError, match=r"`num_prototypes` .* references, 12, but got 13"):
        fit_prototypes(states, labels, n=13, seed=0)
    with pytest.raises(ValueError, match=r"rows of each class, but have none of 'd' .*1 of 4"):
        fit_prototypes(states, labels, n=3, seed=0, names=["a", "b", "c", "d"])
    with pytest.raises(
        ValueError, match=r"`texts` are expected to be one a reference, 12, but got"
    ):
        fit_prototypes(states, labels, n=3, seed=0, texts=["one"])
    with pytest.raises(ValueError, match=r"`labels` .* at least 0, but that of reference 2 is -1"):
        fit_prototypes(states, labels.where(labels < 2, -1), n=3, seed=0)
    states[4] = 0
    with pytest.raises(ValueError, match=r"finite and not 0, but that of reference 4 has length 0"):
        fit_prototypes(states, labels, n=3, seed=0)
    with pytest.raises(ValueError, match=r"`labels` are expected .* means of classes"):
        fit_prototypes(states[:3], None, n=3, seed=0, supervised=True)


def test_a_payload_gives_the_same_and_damage_is_refused() -> None:
    states, labels = blobs()
    made = fit_prototypes(states, labels, 4, 0, encoder="e1", names="abc", texts=["t"] * 40)
    read = PrototypeSet.from_payload(made.to_payload())
    assert torch.equal(read.vectors, made.vectors)
    assert (read.digest, read.references, read.about) == (made.digest, made.references, made.about)
    bare = PrototypeSet.from_payload(made.to_payload(texts=False))
    assert (bare.digest, bare.references) == (made.digest, ())
    assert made.to_payload().tensors["vectors"].numel() * 4 == made.nbytes == 4 * 5 * 4
    far = replace(made, classes=made.classes + 2**15, labels=())
    with pytest.raises(ValueError, match=r"`classes` .* at most 32,767, .* but got 32,770"):
        far.to_payload()
    sent = made.to_payload()
    tensors = {**sent.tensors, "vectors": made.vectors.flip(0)}
    with pytest.raises(
        ValueError, match=r"prototypes of version 0, encoder e1 and digest .* but goes by"
    ):
        PrototypeSet.from_payload(type(sent)(tensors, sent.strings))


def test_a_rare_class_has_a_prototype() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.7, 0.7, 0.2]])
    labels = torch.tensor([0] * 60 + [1] * 60 + [2] * 4)
    states = centres[labels] + 0.25 * torch.randn(len(labels), 3, generator=generator)
    for n in (3, 6, 12):
        made = fit_prototypes(states, labels, n=n, seed=0)
        assert len(made) == n
        assert set(made.classes.tolist()) == {0, 1, 2}, n
        unit = torch.nn.functional.normalize(states, dim=-1)
        nearest = (unit @ made.vectors.T).argmax(-1)
        assert made.counts.tolist() == torch.bincount(nearest, minlength=n).tolist()
    # fewer prototypes than classes: the gate that goes by classes says so
    few = fit_prototypes(states, labels, n=2, seed=0, names=("a", "b", "c"))
    with pytest.raises(ValueError, match=r"expects a prototype of each class, .* of 'c' there is"):
        AgreementGate().check(few)


@pytest.mark.parametrize("seed", range(24))
def test_no_prototype_is_empty_and_each_class_has_one(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.tensor([0] * 9 + [1] * 2 + [2, 3])
    states = torch.randn(13, 2 + seed % 3, generator=draw)
    made = fit_prototypes(states, labels, n=4 + seed % 6, seed=0, names="abcd")
    assert set(made.classes.tolist()) == {0, 1, 2, 3}
    nearest = made.nearest(states)
    assert made.counts.tolist() == torch.bincount(nearest, minlength=len(made)).tolist()
    assert int(made.counts.min()) > 0
    AgreementGate().check(made)


def test_a_prototype_that_a_rare_class_has_emptied_goes_to_a_reference() -> None:
    states = torch.randn(7, 2, generator=torch.Generator().manual_seed(11))
    made = fit_prototypes(states, torch.tensor([0] * 5 + [1, 2]), n=4, seed=0)
    assert made.classes.tolist() == [2, 1, 0, 0]
    assert int(made.counts.min()) > 0
    unit = states / states.norm(dim=1, keepdim=True)
    assert float((made.vectors[3] @ unit.T).max()) == pytest.approx(1)


def test_a_class_whose_references_are_anothers_as_well_takes_their_prototype() -> None:
    # class 1 has a reference where one of class 0 is, and no mean of its own beside it
    states = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    made = fit_prototypes(states, torch.tensor([0, 0, 1, 0]), n=2, seed=0)
    assert sorted(zip(made.classes.tolist(), made.counts.tolist(), strict=True)) == [(0, 1), (1, 3)]


def test_references_that_are_the_same_are_one() -> None:
    states, labels = torch.eye(4)[torch.arange(20) % 4], torch.arange(20) % 2
    draw = torch.Generator().manual_seed(0)
    noise = 1e-6 * torch.randn(20, 4, generator=draw)
    # of other lengths they have the same direction, and padding leaves noise
    for same in (states, states * torch.arange(1.0, 21.0).unsqueeze(-1), states + noise):
        with pytest.raises(
            ValueError, match="references that differ in direction, 4 of 20, but got 5"
        ):
            fit_prototypes(same, labels, n=5, seed=0)
        assert sorted(fit_prototypes(same, labels, n=4, seed=0).counts.tolist()) == [5] * 4
    apart = states + 1e4 * noise
    assert len(fit_prototypes(apart, labels, n=5, seed=0)) == 5


def test_references_that_cancel_each_other_out_are_named() -> None:
    states, labels = torch.tensor([[2.0, 0.0], [-1.0, 0.0], [0.0, 3.0]]), torch.tensor([1, 1, 0])
    with pytest.raises(
        ValueError, match=r"`references` .* those of prototype 1 of class 'b' cancel each other out"
    ):
        fit_prototypes(states, labels, n=2, seed=0, supervised=True, names="ab")
    with pytest.raises(ValueError, match=r"`references` .* of prototype 0 cancel each other out"):
        fit_prototypes(states[:2], None, n=1, seed=0)


@pytest.mark.parametrize(
    "changed", ["vectors", "classes", "counts", "version", "encoder", "labels"]
)
def test_the_digest_tells_sets_apart(changed: str) -> None:
    given = {
        "vectors": torch.eye(2),
        "classes": torch.tensor([0, 1]),
        "counts": torch.tensor([3, 4]),
        "version": 0,
        "encoder": "e1",
        "labels": ("a", "b"),
    }
    others = {
        "vectors": torch.eye(2).flip(0),
        "classes": torch.tensor([1, 0]),
        "counts": torch.tensor([3, 5]),
        "version": 1,
        "encoder": "e2",
        "labels": ("b", "a"),
    }
    one, other = PrototypeSet(**given), PrototypeSet(**given | {changed: others[changed]})
    assert one.digest != other.digest
    assert one.digest == PrototypeSet(**given, references=(("x",), ())).digest


def test_a_set_that_is_none_is_refused() -> None:
    pair = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"length 1, but that of prototype 0 is 2"):
        PrototypeSet(2 * torch.eye(2), pair, pair, 0, "e1")
    with pytest.raises(ValueError, match=r"`counts` are expected to be one a prototype, \[2\]"):
        PrototypeSet(torch.eye(2), pair, pair[:1], 0, "e1")
    with pytest.raises(ValueError, match=r"`classes` are expected to be from -1 to 0"):
        PrototypeSet(torch.eye(2), pair, pair, 0, "e1", labels=("one",))
    with pytest.raises(ValueError, match=r"width of the prototypes, 2, but have 3"):
        PrototypeSet(torch.eye(2), pair, pair, 0, "e1").nearest(torch.ones(1, 3))
