from collections import Counter

import pytest

from lit_fed.methods.semantic_consensus import RandomClient
from tests.methods.semantic_consensus.votes import ballots


def test_each_voting_client_is_as_likely() -> None:
    n = 6000
    votes = ballots(
        [["a"] * n, ["b"] * n, ["c"] * n, [None] * n], [[1.0] * n, [9.0] * n, [2.0] * n, [5.0] * n]
    )
    found = RandomClient()(votes, seed=0)
    counts = Counter(found.labels)
    assert set(counts) == {"a", "b", "c"}
    # Five standard deviations.
    assert all(abs(counts[x] - n / 3) < 5 * (n * 2 / 9) ** 0.5 for x in "abc")
    assert found.confidence.unique().tolist() == [1]


def test_by_the_seed() -> None:
    votes = ballots([["a"] * 50, ["b"] * 50])
    one, two, three = (RandomClient()(votes, seed=seed).labels for seed in (1, 1, 2))
    assert one == two != three


@pytest.mark.parametrize("answer", [None, "", " "])
def test_without_votes_it_abstains(answer: str | None) -> None:
    found = RandomClient()(ballots([[answer]]), seed=0)
    assert found.labels == (None,)
    assert found.confidence.tolist() == [0]
