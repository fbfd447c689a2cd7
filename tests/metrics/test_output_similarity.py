import re

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine, jensenshannon

from lit_fed.metrics import jensen_shannon_similarity, sentence_cosine


def test_jensen_shannon_equals_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = (3 * torch.randn(2, 40, 6, generator=generator)).softmax(-1)
    expected = [1 - jensenshannon(a, b, base=2) ** 2 for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(jensen_shannon_similarity(p, q), expected, atol=1e-5)


def test_jensen_shannon_is_symmetric_and_ignores_the_order_of_classes() -> None:
    generator = torch.Generator().manual_seed(1)
    p, q = torch.randn(2, 10, 5, generator=generator).softmax(-1)
    similarity = jensen_shannon_similarity(p, q)
    torch.testing.assert_close(similarity, jensen_shannon_similarity(q, p))
    torch.testing.assert_close(similarity, jensen_shannon_similarity(p.flip(1), q.flip(1)))


def test_jensen_shannon_takes_half_precision() -> None:
    p = torch.randn(10, 5, generator=torch.Generator().manual_seed(1)).softmax(-1)
    assert bool((jensen_shannon_similarity(p.half(), p.bfloat16()) > 0.999).all())


def test_logits_are_refused() -> None:
    with pytest.raises(ValueError, match="`preds` is expected to hold probabilities, each row of"):
        jensen_shannon_similarity(torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, 0.5]]))
    with pytest.raises(ValueError, match="`reference` is expected to hold probabilities, each row"):
        jensen_shannon_similarity(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.6]]))


def test_cosine_equals_scipy() -> None:
    generator = torch.Generator().manual_seed(2)
    a, b = torch.randn(2, 20, 8, generator=generator)
    expected = [1 - cosine(x, y) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(sentence_cosine(a, b), expected, atol=1e-5)
    torch.testing.assert_close(sentence_cosine(2 * a, 0.1 * b), sentence_cosine(a, b))


def test_no_examples() -> None:
    assert sentence_cosine(torch.empty(0, 3), torch.empty(0, 3)).shape == (0,)
    assert jensen_shannon_similarity(torch.empty(0, 3), torch.empty(0, 3)).shape == (0,)


def test_shapes_differ() -> None:
    message = "are expected to have one shape [examples, width], but have [2, 3] and [3, 3]"
    with pytest.raises(ValueError, match=re.escape(message)):
        sentence_cosine(torch.ones(2, 3), torch.ones(3, 3))
    with pytest.raises(ValueError, match=re.escape("[examples, classes], but have [3] and [3]")):
        jensen_shannon_similarity(torch.ones(3), torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_least_probability_does_not_count(dtype: torch.dtype) -> None:
    least = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    p, q = torch.tensor([[least, 1.0]], dtype=dtype), torch.tensor([[0.0, 1.0]], dtype=dtype)
    assert p[0, 0] > 0 == p[0, 0] / 2
    assert jensen_shannon_similarity(p, q).item() == jensen_shannon_similarity(q, p).item() == 1
