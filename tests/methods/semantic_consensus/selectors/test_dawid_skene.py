import math

import numpy as np
import pytest

from lit_fed.methods.semantic_consensus import DawidSkene, MajorityVote
from lit_fed.methods.semantic_consensus.selectors.dawid_skene import fit_dawid_skene
from tests.methods.semantic_consensus.votes import ballots


def plain(
    said: np.ndarray, weights: np.ndarray, count: int, iterations: int, smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    """The paper's equations 2.3 to 2.5 with pseudo-counts, in loops and probabilities."""
    clients, prompts = said.shape
    t = np.zeros((prompts, count))
    for u in range(prompts):
        for k in range(clients):
            if said[k, u] >= 0:
                t[u, said[k, u]] += weights[k, u]
        t[u] = t[u] / t[u].sum() if t[u].sum() else 1 / count
    for _ in range(iterations):
        p = (t.sum(0) + smoothing) / (t.sum() + smoothing * count)
        pi = np.zeros((clients, count, count))
        for k in range(clients):
            for c in range(count):
                for answer in range(count):
                    seen = sum(t[u, c] for u in range(prompts) if said[k, u] == answer)
                    pi[k, c, answer] = seen + smoothing
                pi[k, c] /= pi[k, c].sum()
        for u in range(prompts):
            for c in range(count):
                t[u, c] = p[c]
                for k in range(clients):
                    if said[k, u] >= 0:
                        t[u, c] *= pi[k, c, said[k, u]]
            t[u] /= t[u].sum()
    return t, pi


def confused(
    prompts: int, accuracies: list[float], seed: int, count: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """True labels [U], and what clients of these accuracies say [K, U]; one below chance says the next label."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, count, prompts)
    rows = []
    for accuracy in accuracies:
        right = generator.random(prompts) < accuracy
        other = (truth + generator.integers(1, count, prompts)) % count
        liar = (truth + 1) % count
        rows.append(np.where(right, truth, liar if accuracy < 1 / count else other))
    return truth, np.stack(rows)


def test_against_plain_loops() -> None:
    _, said = confused(30, [0.9, 0.7, 0.5, 0.2], seed=0)
    said[np.random.default_rng(1).random(said.shape) < 0.15] = -1
    weights = np.random.default_rng(2).random(said.shape)
    fitted = fit_dawid_skene(said, weights, 3, max_iterations=7, tolerance=1e-12, smoothing=0.05)
    posterior, confusion = plain(said, weights, 3, 7, 0.05)
    assert fitted.iterations == 7
    assert not fitted.converged
    np.testing.assert_allclose(fitted.posterior, posterior, atol=1e-10)
    np.testing.assert_allclose(fitted.confusion, confusion, atol=1e-10)


def answers_of(said: np.ndarray) -> list[list[str | None]]:
    names = ["red", "green", "blue"]
    return [[None if i < 0 else names[i] for i in row] for row in said]


def test_it_finds_who_errs_and_beats_the_vote() -> None:
    truth, said = confused(300, [0.9, 0.85, 0.1, 0.1, 0.4], seed=3)
    votes = ballots(answers_of(said))
    right = [["red", "green", "blue"][i] for i in truth]
    score = {}
    for selector in (DawidSkene(), MajorityVote()):
        labels = selector(votes, seed=0).labels
        score[type(selector)] = np.mean([a == b for a, b in zip(labels, right, strict=True)])
    assert score[DawidSkene] > 0.85 > 0.6 > score[MajorityVote]


def test_convergence_is_told() -> None:
    _, said = confused(100, [0.9, 0.8, 0.7], seed=4)
    votes = ballots(answers_of(said))
    found = DawidSkene()(votes, seed=0).metrics
    assert found["converged"] == 1
    assert 1 < found["iterations"] < 100
    assert found["labels"] == 3
    cut = DawidSkene(max_iterations=2)(votes, seed=0).metrics
    assert (cut["converged"], cut["iterations"]) == (0, 2)


@pytest.mark.parametrize(
    ("answers", "label"),
    [
        (["a"], "a"),
        ([None], None),
        ([" "], None),
        (["a", "b"], None),
        (["a", "A."], "a"),
        (["a", None], "a"),
        (["a", "a", "b"], "a"),
    ],
)
def test_few_clients_and_one_prompt(answers: list[str | None], label: str | None) -> None:
    found = DawidSkene()(ballots([[a] for a in answers]), seed=0)
    shown = found.labels[0]
    assert (shown and shown.lower().strip(".")) == label
    assert (found.confidence.item() > 0.5) == (label is not None)


def test_a_prompt_without_votes_abstains_among_others() -> None:
    votes = ballots([["a", None, "a"], ["a", "", "b"], ["a", None, "a"]])
    found = DawidSkene()(votes, seed=0)
    assert found.labels == ("a", None, "a")
    assert found.confidence[1] == 0


def test_prompts_without_a_vote_change_nothing() -> None:
    """Nine of ten are of one label, which prompts that nobody answers must not make half of them."""
    draw = np.random.default_rng(5)
    truth = np.where(draw.random(40) < 0.9, 0, 1)
    said = [np.where(draw.random(40) < 0.8, truth, 1 - truth) for _ in range(3)]
    alone = DawidSkene()(ballots(answers_of(np.array(said))), seed=0)
    silent = [[*row, *[None] * 2000] for row in answers_of(np.array(said))]
    beside = DawidSkene()(ballots(silent), seed=0)
    assert beside.labels[:40] == alone.labels
    assert beside.labels[40:] == (None,) * 2000
    assert beside.confidence[:40].tolist() == pytest.approx(alone.confidence.tolist())
    assert beside.metrics["iterations"] == alone.metrics["iterations"]
    nothing = DawidSkene()(ballots([[None, ""], [" ", None]]), seed=0)
    assert nothing.labels == (None, None)


def test_one_client_of_many_texts_does_not_fill_the_label_set() -> None:
    noise = [f"noise {u}" for u in range(30)]
    votes = ballots([["a", "b"] * 15, ["a", "b"] * 15, noise])
    found = DawidSkene(max_labels=4)(votes, seed=0)
    assert found.labels == ("a", "b") * 15
    assert found.metrics["labels"] == 4
    assert found.metrics["unknown_answers"] == pytest.approx(28 / 90)
    alone = DawidSkene(max_labels=2)(ballots([noise]), seed=0)
    assert sum(label is not None for label in alone.labels) == 2


def test_order_of_clients_and_prompts_plays_no_part() -> None:
    _, said = confused(60, [0.9, 0.7, 0.6, 0.5], seed=6)
    found = DawidSkene()(ballots(answers_of(said)), seed=0)
    turned = DawidSkene()(ballots(answers_of(said[::-1, ::-1])), seed=0)
    assert turned.labels == found.labels[::-1]
    np.testing.assert_allclose(turned.confidence.numpy()[::-1], found.confidence, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"max_iterations": 0},
            "`model.selector.max_iterations` is expected to be at least 1, but got 0",
        ),
        ({"tolerance": 0.0}, "`model.selector.tolerance` is expected to be finite and above 0"),
        (
            {"smoothing": math.nan},
            "`model.selector.smoothing` is expected to be finite and above 0",
        ),
        ({"max_labels": 0}, "`model.selector.max_labels` is expected to be at least 1, but got 0"),
    ],
)
def test_bad_settings(settings: dict[str, float], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        DawidSkene(**settings)  # type: ignore[arg-type]
