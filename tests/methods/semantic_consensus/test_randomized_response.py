import itertools
import math

import numpy as np
import pytest

from lit_fed.methods.semantic_consensus import RandomizedResponse

LABELS = ["negative", "neutral", "positive"]


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("labels", [LABELS[:2], LABELS])
def test_probabilities_and_epsilon(labels: list[str], epsilon: float) -> None:
    response = RandomizedResponse(labels, epsilon)
    count = len(labels)
    table = np.full((count, count), response.turns)
    np.fill_diagonal(table, response.keeps)
    # An abstention is as hidden as an answer.
    table = np.vstack([table, np.full(count, 1 / count)])
    assert table.sum(1) == pytest.approx(np.ones(count + 1))
    worst = max(
        math.log(one / other)
        for column in table.T
        for one, other in itertools.permutations(column, 2)
    )
    assert worst == pytest.approx(epsilon)


def test_two_labels_are_the_xor_mechanism_on_one_bit() -> None:
    epsilon = 0.7
    response = RandomizedResponse(LABELS[:2], epsilon)
    assert response.turns == pytest.approx(1 / (1 + math.exp(epsilon)))


def test_flip_rates() -> None:
    response = RandomizedResponse(LABELS, 1.0)
    n = 60_000
    for true, answer in [(0, "negative"), (2, "Positive."), (None, None), (None, "something else")]:
        sent = response([answer] * n, np.random.default_rng(0))
        rates = np.array([sent.count(label) for label in LABELS]) / n
        expected = np.full(3, 1 / 3)
        if true is not None:
            expected = np.full(3, 1 / (math.e + 2))
            expected[true] = math.e / (math.e + 2)
        assert rates == pytest.approx(expected, abs=5 * 0.5 / math.sqrt(n))


def test_a_label_turns_into_each_other_one_and_answers_are_independent() -> None:
    response = RandomizedResponse(LABELS, 0.5)
    sent = response(["neutral", "negative"] * 20_000, np.random.default_rng(3))
    first, second = (np.array([s == "positive" for s in part]) for part in (sent[::2], sent[1::2]))
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / math.sqrt(20_000)


def test_counting_is_unbiased() -> None:
    response = RandomizedResponse(LABELS, 1.0)
    true = np.array([0.6, 0.3, 0.1])
    answers = [LABELS[i] for i in np.repeat(np.arange(3), (true * 20_000).astype(int))]
    sent = response(answers, np.random.default_rng(1))
    shares = np.array([sent.count(label) for label in LABELS]) / len(sent)
    assert response.unbiased(shares) == pytest.approx(true, abs=0.03)
    assert abs(shares - true).max() > 0.1
    assert response.unbiased(np.array([response.keeps, response.turns])) == pytest.approx([1, 0])


def test_standard_error_is_the_deviation_of_estimates() -> None:
    response, draw = RandomizedResponse(LABELS, 1.0), np.random.default_rng(4)
    weights = np.repeat([1.0, 3.0], 10)
    # each weight with the same share of the label
    answers = (["negative"] * 6 + ["neutral"] * 2 + ["positive"] * 2) * 2
    estimates = [
        response.unbiased(np.average([text == "negative" for text in sent], weights=weights))
        for sent in (response(answers, draw) for _ in range(20_000))
    ]
    assert np.mean(estimates) == pytest.approx(0.6, abs=0.02)
    assert np.std(estimates) == pytest.approx(response.standard_error(0.6, weights), rel=0.02)


def test_same_generator_same_answers() -> None:
    response = RandomizedResponse(LABELS, 1.0)
    answers = ["positive", None] * 50
    one, two, three = (response(answers, np.random.default_rng(s)) for s in (5, 5, 6))
    assert one == two != three


def brute_force_delta(bound: float, answers: int, epsilon: float) -> float:
    """δ at an ε, summed over every outcome of the answers one by one."""
    kept = 1 / (1 + math.exp(-epsilon))
    excess = 0.0
    for outcome in itertools.product([kept, 1 - kept], repeat=answers):
        one = math.prod(outcome)
        other = math.prod(1 - p for p in outcome)
        excess += max(0.0, one - math.exp(bound) * other)
    return excess


@pytest.mark.parametrize(
    ("answers", "epsilon", "delta"), [(1, 0.5, 0.1), (6, 0.5, 1e-2), (10, 0.3, 1e-5), (9, 1.0, 0.1)]
)
def test_composition_against_all_outcomes(answers: int, epsilon: float, delta: float) -> None:
    response = RandomizedResponse(LABELS, epsilon)
    assert response.composed(answers) == pytest.approx(answers * epsilon)
    found = response.composed(answers, delta)
    assert 0 < found < answers * epsilon
    assert brute_force_delta(found, answers, epsilon) == pytest.approx(delta, rel=1e-6)


def test_composition_of_many_answers_is_below_the_advanced_bound() -> None:
    epsilon, answers, delta = 0.1, 1000, 1e-5
    found = RandomizedResponse(LABELS, epsilon).composed(answers, delta)
    dwork = epsilon * math.sqrt(2 * answers * math.log(1 / delta)) + answers * epsilon * math.expm1(
        epsilon
    )
    assert epsilon < found < dwork < answers * epsilon


@pytest.mark.parametrize(
    ("labels", "epsilon", "line"),
    [
        (["yes"], 1.0, "two or more different labels"),
        (["yes", "Yes."], 1.0, "two or more different labels"),
        (["yes", "no"], 0.0, "`epsilon` is expected to be finite and above 0"),
        (["yes", "no"], math.inf, "`epsilon` is expected to be finite and above 0"),
        (["yes", "no"], 1e-300, "`epsilon` is expected to be large enough that an answer tells"),
        (["yes", "no"], 1e-17, "`epsilon` is expected to be large enough that an answer tells"),
    ],
)
def test_bad_settings(labels: list[str], epsilon: float, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        RandomizedResponse(labels, epsilon)


@pytest.mark.parametrize("delta", [-0.1, 1.0, math.nan])
def test_delta_out_of_range(delta: float) -> None:
    with pytest.raises(ValueError, match="`delta` is expected to be at least 0 and below 1"):
        RandomizedResponse(LABELS, 1.0).composed(3, delta)
