"""How near answers are to each other, where an encoder cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lit_fed.methods.semantic_consensus import (
    AnswerEncoder,
    ClusterMedoid,
    HashedNgramEncoder,
    Medoid,
    RadialConsensus,
)
from lit_fed.methods.semantic_consensus.selectors.similarities import similar_answers
from tests.methods.semantic_consensus.votes import GivenVectors, ballots

ENCODER = GivenVectors(
    {
        "same": (0, 0),
        "Same.": (float("nan"), 1),
        "other": (0, 0),
        "plain": (1, 0),
        "Plain": (0, float("inf")),
    }
)


def cosines(encoder: AnswerEncoder, answers: Sequence[str]) -> list[list[float]]:
    (found,) = similar_answers(ballots([[one] for one in answers]), encoder)
    values: list[list[float]] = found.cosines.tolist()
    return values


@pytest.mark.parametrize("selector", [ClusterMedoid, Medoid, RadialConsensus])
def test_the_same_text_is_the_same_answer_without_a_vector(selector: type) -> None:
    found = selector(ENCODER)(ballots([["same"], ["same"], ["same"]]), seed=0)
    assert found.labels == ("same",)
    assert found.confidence.tolist() == [1]


def test_texts_without_a_vector_are_compared_as_an_exact_vote_does() -> None:
    answers = ["same", "Same.", "other", "plain", "Plain"]
    expected = np.eye(5)
    expected[0, 1] = expected[1, 0] = expected[3, 4] = expected[4, 3] = 1
    assert cosines(ENCODER, answers) == expected.tolist()


@pytest.mark.parametrize(
    "pair",
    [
        ("It is 12.", "It is 13."),
        ("The answer is 7", "The answer is 9"),
        ("120", "121"),
        ("It is 2,5.", "It is 25."),
        ("0,125", "125"),
        ("It is №12.", "It is №13."),
        ("x=-5", "x=5"),
        ("version v1", "version v2"),
        ("vitamin B12", "vitamin B6"),
        ("1.200,50", "1,200"),
    ],
)
@pytest.mark.parametrize("selector", [ClusterMedoid, Medoid, RadialConsensus])
def test_answers_with_different_numbers_are_different_answers(
    selector: type, pair: tuple[str, str]
) -> None:
    assert selector()(ballots([[one] for one in pair]), seed=0).labels == (None,)
    (_, found), _ = cosines(HashedNgramEncoder(), pair)
    assert found <= 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It is 12.", "It is 12, I think."),
        ("It has 1,200 rooms.", "It has 1200 rooms."),
        ("It has 12.0 rooms", "it has 12 rooms"),
        ("The house has 12 rooms.", "The house has twelve rooms."),
        ("It has 12 rooms.", "It has 12 rooms on 3 floors."),
        ("It is of type B12.", "It is of type B12, or 12."),
        ("It has １２ rooms.", "It has 12 rooms."),
    ],
)
def test_answers_whose_numbers_do_not_exclude_each_other_are_compared_by_their_vectors(
    one: str, other: str
) -> None:
    vectors = HashedNgramEncoder().encode([one, other]).double()
    (_, found), _ = cosines(HashedNgramEncoder(), [one, other])
    assert found == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-6)
    assert found > 0.3


def test_an_answer_without_a_number_joins_no_different_ones() -> None:
    """It is as near to each of two answers as these are to nobody else."""
    votes = ballots([["It is"], ["It is 12"], ["It is 13"]])
    found = ClusterMedoid()(votes, seed=0)
    assert found.metrics["clusters"] == 2
    assert found.labels in (("It is",), ("It is 12",), ("It is 13",))
    every = [[f"It is {n}"] for n in range(40)] + [["It is"]] * 60
    found = ClusterMedoid()(ballots(every), seed=0)
    assert found.labels == ("It is",)
    assert found.metrics["clusters"] >= 40


def test_of_answers_with_the_same_vector_that_of_most_votes_is_taken() -> None:
    one, other = "Anna paid Bert", "Bert paid Anna"  # the same n-grams within words
    for selector in (ClusterMedoid, Medoid, RadialConsensus):
        most = selector()(ballots([[one], [other], [other.upper()]]), seed=0)
        assert most.labels == (other,)
        weighted = selector()(ballots([[one], [other]], [[3.0], [1.0]]), seed=0)
        assert weighted.labels == (one,)
    # a cluster has a label whichever it is; where there are no clusters, nobody knows
    assert ClusterMedoid()(ballots([[one], [other]]), seed=0).labels == (one,)
    assert Medoid()(ballots([[one], [other]]), seed=0).labels == (None,)


def test_a_majority_with_one_number_wins_over_another_number() -> None:
    votes = ballots([["It is 12."], ["It is 12!"], ["It is 13."]])
    assert ClusterMedoid()(votes, seed=0).labels == ("It is 12.",)
