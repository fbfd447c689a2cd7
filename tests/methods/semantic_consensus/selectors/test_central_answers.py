import itertools
import math

import numpy as np
import pytest
import torch

from lit_fed.methods.semantic_consensus import Ballots, Medoid, RadialConsensus, Selector
from tests.methods.semantic_consensus.votes import GivenVectors, ballots, random_answers


@pytest.mark.parametrize("seed", [0, 1])
def test_against_plain_loops(seed: int) -> None:
    encoder, votes = random_answers(6, prompts=40, seed=seed)
    medoids = Medoid(encoder)(votes, seed=0)
    radial = RadialConsensus(encoder)(votes, seed=0)
    for place, prompt in enumerate(votes.prompts()):
        vectors = np.array([encoder.vectors[a] for a in prompt.answers])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        n = len(prompt.answers)
        risks = [
            sum(prompt.weights[j] * np.linalg.norm(vectors[i] - vectors[j]) for j in range(n))
            for i in range(n)
        ]
        centre = (
            sum(w * v for w, v in zip(prompt.weights, vectors, strict=True)) / prompt.weights.sum()
        )
        radii = [np.linalg.norm(vector - centre) for vector in vectors]
        for found, distances in ((medoids, risks), (radial, radii)):
            best = int(np.argmin(distances))
            assert found.labels[place] == prompt.answers[best]
            expected = max(0.0, vectors[best] @ centre)
            assert found.confidence[place].item() == pytest.approx(expected, abs=1e-5)
    assert medoids.labels != radial.labels


VECTORS = GivenVectors({"a": (1, 0), "A!": (1, 0.001), "b": (0, 1), "m": (1, 1), "z": (-1, 0)})


@pytest.mark.parametrize("selector", [Medoid(VECTORS), RadialConsensus(VECTORS)])
@pytest.mark.parametrize(
    ("answers", "label", "confidence"),
    [
        (["a"], "a", 1.0),
        ([None], None, 0.0),
        ([""], None, 0.0),
        (["a", "b"], None, 0.0),
        (["a", "a"], "a", 1.0),
        (["a", "A!"], "a", 1.0),
        (["a", "m", "b"], "m", (1 + math.sqrt(2)) / 3),
        (["a", "a", "b", "b"], None, 0.0),
        (["a", "a", "b", None], "a", 2 / 3),
        (["a", "z", "z", "a", "z"], "z", 0.2),
    ],
)
def test_few_clients(
    selector: Selector, answers: list[str | None], label: str | None, confidence: float
) -> None:
    found = selector(ballots([[a] for a in answers]), seed=0)
    assert found.labels == (label,)
    assert found.confidence.item() == pytest.approx(confidence, abs=1e-3)


@pytest.mark.parametrize("selector", [Medoid(VECTORS), RadialConsensus(VECTORS)])
def test_the_heavier_of_two_wins(selector: Selector) -> None:
    assert selector(ballots([["a"], ["b"]], [[1.0], [1.5]]), seed=0).labels == ("b",)
    assert selector(ballots([["a"], ["b"]], [[1.0], [0.0]]), seed=0).labels == ("a",)


@pytest.mark.parametrize("kind", [Medoid, RadialConsensus])
def test_two_against_two_abstain_whatever_the_rounding(
    kind: type[Medoid] | type[RadialConsensus],
) -> None:
    """As a text is not quite at distance 0 from itself in single precision, each pair has its own error."""
    texts = [f"It is {place}{' indeed' * n}." for n, place in enumerate("ABCDEFGHIJKL")]
    pairs = list(itertools.combinations(texts, 2))
    votes = ballots([[a for a, _ in pairs]] * 2 + [[b for _, b in pairs]] * 2)
    assert kind()(votes, seed=0).labels == (None,) * len(pairs)


@pytest.mark.parametrize("kind", [Medoid, RadialConsensus])
def test_order_of_clients_plays_no_part(kind: type[Medoid] | type[RadialConsensus]) -> None:
    encoder, votes = random_answers(7, prompts=20, seed=5, missing=0)
    votes = Ballots(votes.clients, votes.answers, torch.ones(7, 20))
    turned = Ballots(votes.clients, votes.answers[::-1], votes.weights)
    assert kind(encoder)(votes, seed=0).labels == kind(encoder)(turned, seed=0).labels
