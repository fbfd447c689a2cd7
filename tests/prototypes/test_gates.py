"""Gates and margins beside NumPy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lit_fed.prototypes import (
    AgreementGate,
    ConformalGate,
    EarlyMargin,
    NoGate,
    PrototypeSet,
    RisingMargin,
    conformal_p_values,
)


def rows(count: int, seed: int, noise: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    return np.eye(2, 3)[labels] + draw.normal(0, noise, (count, 3)), labels


def axes() -> PrototypeSet:
    classes = torch.tensor([0, 1, 1])
    return PrototypeSet(torch.eye(3), classes, classes, 0, "e1", labels=("bad", "good"))


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (
        b / np.linalg.norm(b, axis=1, keepdims=True)
    ).T


def test_agreement_by_hand() -> None:
    states = torch.tensor([[1.0, 0.2, 0.0], [0.0, 1.0, 0.0], [0.0, 0.1, 1.0], [1.0, 0.0, 0.0]])
    said = AgreementGate().judge(axes(), {}, states, torch.tensor([0, 0, 1, -100]))
    assert said.kept.tolist() == [True, False, True, True]  # one without a label has no loss
    assert said.assigned.tolist() == [0, 1, 2, 0]
    assert said.reasons == ("", "nearest prototype 1 is of class 'good'", "", "")
    everything = NoGate().judge(axes(), {}, states, torch.tensor([0, 0, 1, 1]))
    assert everything.kept.all()


def test_conformal_agrees_with_numpy() -> None:
    (states, labels), (held, held_labels), (own, own_labels) = rows(40, 0), rows(25, 1), rows(30, 2)
    own_labels[:5] = 1 - own_labels[:5]
    gate = ConformalGate(alpha=0.2)
    fitted = gate.fit(*map(torch.tensor, (states, labels, held, held_labels)))
    medians = np.stack([np.median(states[labels == c], axis=0) for c in (0, 1)])
    near = cosine(states, medians)
    typical = np.stack([np.median(near[labels == c], axis=0) for c in (0, 1)])

    def scores(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.linalg.norm(cosine(x, medians) - typical[y], axis=1)

    calibration = scores(held, held_labels)
    p = np.array([((calibration >= s).sum() + 1) / 26 for s in scores(own, own_labels)])
    said = gate.judge(axes(), fitted, torch.tensor(own), torch.tensor(own_labels))
    assert said.kept.tolist() == (p > 0.2).tolist()
    assert 0 < said.kept.sum() < 30
    first = int((p <= 0.2).argmax())
    assert said.reasons[first] == f"p-value {p[first]:.3g} is at most 0.2"


def test_alpha_is_the_share_of_clean_rows_that_is_lost() -> None:
    (states, labels), (held, held_labels), (own, own_labels) = (
        rows(400, 3),
        rows(400, 4),
        rows(4000, 5),
    )
    for alpha in (0.05, 0.2):
        gate = ConformalGate(alpha)
        fitted = gate.fit(*map(torch.tensor, (states, labels, held, held_labels)))
        kept = gate.judge(axes(), fitted, torch.tensor(own), torch.tensor(own_labels)).kept
        assert 1 - kept.double().mean().item() == pytest.approx(alpha, abs=0.035)


def test_p_values_of_ties_and_of_classes_without_references() -> None:
    p = conformal_p_values(torch.tensor([1.0, 2.0, torch.inf]), torch.tensor([1.0, 1.0, 2.0]))
    assert p.tolist() == [1.0, 0.5, 0.25]
    states, labels = rows(20, 6)
    gate = ConformalGate(0.1)
    fitted = gate.fit(*map(torch.tensor, (states, labels, states, labels)))
    assert not gate.judge(axes(), fitted, torch.tensor(states[:1]), torch.tensor([7])).kept.any()


def test_a_row_whose_vector_is_not_finite_is_dropped() -> None:
    states, labels = map(torch.tensor, rows(40, 8))
    strange = torch.tensor([[torch.nan] * 3, [torch.inf, 0.0, 0.0], [1.0, 0.0, 0.0]]).double()
    conformal = ConformalGate(0.1)
    fitted = conformal.fit(states, labels, states, labels)
    for gate, known in ((AgreementGate(), {}), (conformal, fitted)):
        said = gate.judge(axes(), known, strange, torch.tensor([0, -100, 0]))
        assert said.kept.tolist() == [False, False, True]
        assert said.reasons == ("its vector is not finite",) * 2 + ("",)
    bad = states.index_fill(0, torch.tensor([7]), torch.nan)
    for given, name in (((bad, states), "states"), ((states, bad), "held_out_states")):
        with pytest.raises(ValueError, match=f"`{name}` are expected to be finite, but number 7, "):
            conformal.fit(given[0], labels, given[1], labels)


def test_bad_settings_are_named() -> None:
    for alpha in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"`model.gate.alpha` .* above 0 and below 1, but got"):
            ConformalGate(alpha)
    states, labels = map(torch.tensor, rows(20, 7))
    with pytest.raises(ValueError, match=r"`model.held_out` .* at least 19 references.* leaves 4"):
        ConformalGate(0.05).fit(states, labels, states[:4], labels[:4])
    none = torch.tensor([-1, -1, -1])
    unlabelled = PrototypeSet(torch.eye(3), none, none * 0, 0, "e1")
    with pytest.raises(ValueError, match=r"AgreementGate expects prototypes with a class.* 3 of 3"):
        AgreementGate().check(unlabelled)
    with pytest.raises(ValueError, match=r"`model.margin_schedule.end` .* but got 2"):
        RisingMargin(end=2, rounds=3)
    with pytest.raises(
        ValueError, match=r"`model.margin_schedule.rounds` .* at least 1, but got 0"
    ):
        EarlyMargin(rounds=0)
