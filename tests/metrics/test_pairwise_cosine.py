import itertools
import re

import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from lit_fed.metrics import mean_pairwise_cosine

VECTORS = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))


def test_equals_scikit_learn_over_all_pairs() -> None:
    table = cosine_similarity(VECTORS.numpy())
    expected = [table[i, j] for i, j in itertools.combinations(range(6), 2)]
    value = mean_pairwise_cosine(VECTORS).item()
    assert value == pytest.approx(sum(expected) / len(expected), abs=1e-6)


def test_lengths_and_order_do_not_matter() -> None:
    scaled = (VECTORS * torch.tensor([[1.0], [1e-30], [3.0], [1e8], [0.1], [2.0]])).flip(0)
    torch.testing.assert_close(mean_pairwise_cosine(scaled), mean_pairwise_cosine(VECTORS))


def test_zero_vectors_and_single_ones() -> None:
    vectors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    assert mean_pairwise_cosine(vectors).item() == pytest.approx(1 / 3)
    assert mean_pairwise_cosine(vectors[:1]).isnan()
    assert mean_pairwise_cosine(torch.tensor([[1.0], [-1.0]])).item() == -1.0


def test_another_shape() -> None:
    message = "`vectors` are expected to have shape [vectors, width], but have [3]"
    with pytest.raises(ValueError, match=re.escape(message)):
        mean_pairwise_cosine(torch.ones(3))
