import math
from collections import Counter

import numpy as np
import pytest

from lit_fed.methods.semantic_consensus import (
    MajorityVote,
    effective_labels,
    label_churn,
)
from lit_fed.metrics import DistinctN
from tests.methods.semantic_consensus.votes import ballots

ANSWERS: list[list[str | None]] = [
    ["yes", "it is", "red one", None, "a"],
    ["yes", "it is not", "red one", None, "b"],
    ["no", "it is", "blue one", "  ", "c"],
    [None, "it is", "red one", None, "d"],
]


def test_every_metric_by_hand() -> None:
    found = MajorityVote()(ballots(ANSWERS), seed=0)
    assert found.labels == ("yes", "it is", "red one", None, None)
    metrics = found.metrics
    # Pairs that say the same: 1 of 3, 3 of 6, 3 of 6, none asked, 0 of 6.
    assert metrics["agreement"] == pytest.approx((1 / 3 + 1 / 2 + 1 / 2 + 0) / 4)
    assert metrics["winner_share"] == pytest.approx((2 / 3 + 3 / 4 + 3 / 4 + 1 / 4) / 4)
    assert metrics["abstain_rate"] == pytest.approx(2 / 5)
    assert metrics["clusters"] == pytest.approx((2 + 2 + 2 + 4) / 4)
    assert metrics["confidence"] == pytest.approx((2 / 3 + 3 / 4 + 3 / 4) / 3)
    assert metrics["answered"] == pytest.approx(15 / 20)
    assert metrics["effective_labels"] == pytest.approx(3)
    assert math.isnan(metrics["silhouette"])
    texts = [text for row in ANSWERS for text in row if text and text.strip()]
    for n in (1, 2, 3):
        reference = DistinctN(n)
        reference.update(texts)
        assert metrics[f"distinct_{n}"] == pytest.approx(reference.compute().item())


def test_nothing_to_tell() -> None:
    metrics = MajorityVote()(ballots([[None], [""]]), seed=0).metrics
    assert metrics["abstain_rate"] == 1
    assert metrics["answered"] == 0
    assert [name for name, value in metrics.items() if value == value] == [
        "abstain_rate",
        "answered",
    ]


def test_distinct_n_is_of_at_most_a_thousand_answers() -> None:
    """Else it would fall with the number of clients."""
    answers = [[f"answer {k} {u % 7}" for u in range(1000)] for k in range(3)]
    texts = [text for row in answers for text in row]
    reference = DistinctN(1)
    reference.update([texts[i] for i in np.linspace(0, 2999, 1000).round().astype(int)])
    found = MajorityVote()(ballots(answers), seed=0)
    assert found.metrics["distinct_1"] == pytest.approx(reference.compute().item())


def test_effective_labels_against_the_entropy() -> None:
    labels = ["a"] * 5 + ["b"] * 3 + ["c"]
    entropy = -sum(n / 9 * math.log(n / 9) for n in Counter(labels).values())
    assert effective_labels([*labels, None]) == pytest.approx(math.exp(entropy))
    assert effective_labels(["a"] * 4) == 1
    assert effective_labels(["a", "b", "c", "d"]) == pytest.approx(4)
    assert math.isnan(effective_labels([None]))


def test_label_churn() -> None:
    before = ["a", "b", None, None, "e"]
    assert label_churn(before, before) == 0
    assert label_churn(["A.", "x", "c", None, None], before) == pytest.approx(3 / 5)
    assert math.isnan(label_churn([], []))
    with pytest.raises(
        ValueError,
        match="`before` is expected to have a label for each of the 1 prompts, but got 5",
    ):
        label_churn(["a"], before)
