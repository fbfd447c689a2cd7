import math
from collections import defaultdict

import numpy as np
import pytest
import torch

from lit_fed.methods.semantic_consensus import MajorityVote, RandomizedResponse
from tests.methods.semantic_consensus.votes import ballots


def test_weighted_vote_against_a_plain_count() -> None:
    generator = torch.Generator().manual_seed(0)
    names = ["a", "b", "c"]
    said = torch.randint(0, 4, (7, 60), generator=generator)
    weights = torch.rand(7, 60, generator=generator, dtype=torch.float64)
    answers = [[names[i] if i < 3 else None for i in row] for row in said.tolist()]
    found = MajorityVote()(ballots(answers, weights.tolist()), seed=0)
    abstained = 0
    for place in range(60):
        sums: dict[str, float] = defaultdict(float)
        for client in range(7):
            if (answer := answers[client][place]) is not None:
                sums[answer] += weights[client, place].item()
        best = max(sums, key=lambda name: sums[name])
        share = sums[best] / sum(sums.values())
        abstained += share <= 0.5
        assert found.labels[place] == (best if share > 0.5 else None)
        assert found.confidence[place].item() == pytest.approx(share if share > 0.5 else 0.0)
    assert found.metrics["abstain_rate"] == pytest.approx(abstained / 60)
    assert 0 < abstained < 60


@pytest.mark.parametrize(
    ("answers", "label", "confidence"),
    [
        ([["yes"]], "yes", 1.0),
        ([[None]], None, 0.0),
        ([[""]], None, 0.0),
        ([["yes"], ["no"]], None, 0.0),
        ([["yes"], [" YES!"]], "yes", 1.0),
        ([["yes"], [None]], "yes", 1.0),
        ([["yes"], ["  \n"]], "yes", 1.0),
        ([["yes"], ["no"], ["maybe"]], None, 0.0),
        ([["yes"], ["yes"], ["no"], ["maybe"]], None, 0.0),
        ([["yes"], ["yes"], ["yes"], ["no"]], "yes", 0.75),
    ],
)
def test_few_clients(answers: list[list[str | None]], label: str | None, confidence: float) -> None:
    found = MajorityVote()(ballots(answers), seed=0)
    assert found.labels == (label,)
    assert found.confidence.tolist() == [confidence]


def test_a_tie_in_weights_that_floating_point_would_break_abstains() -> None:
    weights = [[0.1], [0.2], [0.3]]
    found = MajorityVote()(ballots([["a"], ["a"], ["b"]], weights), seed=0)
    assert found.labels == (None,)


def test_a_weight_of_zero_is_no_vote() -> None:
    found = MajorityVote()(ballots([["a"], ["b"], ["b"]], [[1.0], [0.0], [0.0]]), seed=0)
    assert found.labels == ("a",)
    assert found.confidence.tolist() == [1.0]


def test_order_of_clients_and_prompts_plays_no_part() -> None:
    generator = torch.Generator().manual_seed(1)
    said = torch.randint(0, 2, (9, 20), generator=generator).tolist()
    answers = [[f"answer {i}" for i in row] for row in said]
    found = MajorityVote()(ballots(answers), seed=0)
    assert MajorityVote()(ballots(answers[::-1]), seed=0).labels == found.labels
    turned = MajorityVote()(ballots([row[::-1] for row in answers]), seed=0)
    assert turned.labels == found.labels[::-1]
    assert turned.metrics["agreement"] == pytest.approx(found.metrics["agreement"])


def test_noise_of_the_clients_is_counted_out() -> None:
    """Of 4,000 clients 60 % answer yes; half of what they send is by chance, so that no label has half of it."""
    names = ["yes", "no", "perhaps", "never"]
    response = RandomizedResponse(names, epsilon=1.0)
    answers = ["yes"] * 2400 + ["no"] * 800 + ["perhaps"] * 800
    sent = response(answers, np.random.default_rng(0))
    votes = ballots([[text] for text in sent])
    assert MajorityVote()(votes, seed=0).labels == (None,)
    found = MajorityVote(response)(votes, seed=0)
    assert found.labels == ("yes",)
    assert found.confidence.item() == pytest.approx(0.6, abs=0.06)


def test_an_estimate_beyond_all_is_cut() -> None:
    response = RandomizedResponse(["yes", "no"], epsilon=1.0)
    found = MajorityVote(response)(ballots([["yes"]] * 19 + [["no"]]), seed=0)
    assert found.confidence.tolist() == [1]
    # the share of the votes is what it is
    assert found.metrics["winner_share"] == pytest.approx(0.95)


def test_of_two_labels_that_both_seem_to_have_more_than_half_none_wins() -> None:
    response = RandomizedResponse(["yes", "no", "perhaps", "never"], epsilon=1.0)
    votes = [["yes"], ["yes"], ["no"], ["no"], ["never"]] * 8
    assert MajorityVote(response)(ballots(votes), seed=0).labels == (None,)
    assert MajorityVote(response)(ballots([*votes, ["no"]]), seed=0).labels == ("no",)


@pytest.mark.parametrize(("epsilon", "labelled"), [(0.1, (0, 0)), (1.0, (0, 0)), (3.0, (0.9, 1))])
def test_few_votes_that_are_mostly_noise_are_no_majority(
    epsilon: float, labelled: tuple[float, float]
) -> None:
    """Of eight clients that all have the true label, six labels: what is labelled is labelled right."""
    names = ["a", "b", "c", "d", "e", "f"]
    response, draw = RandomizedResponse(names, epsilon), np.random.default_rng(0)
    sent = [response(["a"] * 1000, draw) for _ in range(8)]
    found = MajorityVote(response)(ballots(sent), seed=0)
    given = [label for label in found.labels if label is not None]
    assert labelled[0] <= len(given) / 1000 <= labelled[1]
    assert given.count("a") >= 0.99 * len(given)


def test_a_share_is_a_majority_beyond_one_half_by_its_standard_error() -> None:
    """With p = 3/4, two labels and weights of one or two: s = 2 (share - 1/4)."""
    response = RandomizedResponse(["yes", "no"], epsilon=math.log(3))
    weights = [[1.0]] * 10 + [[2.0]] * 10
    # the variance of a vote is p q = 3/16, whatever its answer
    error = 2 * math.sqrt(3 / 16 * (10 * 1 + 10 * 4)) / 30
    least = (0.5 + error) / 2 + 0.25
    for heavy in range(5, 11):
        sent = [["yes"]] * 5 + [["no"]] * 5 + [["yes"]] * heavy + [["no"]] * (10 - heavy)
        found = MajorityVote(response)(ballots(sent, weights), seed=0)
        share = (5 + 2 * heavy) / 30
        assert found.labels == (("yes" if share > least else None),), heavy
        if share > least:
            assert found.confidence.item() == pytest.approx(min(2 * (share - 0.25), 1))
    assert (5 + 2 * 6) / 30 < least < (5 + 2 * 7) / 30
