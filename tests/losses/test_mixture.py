import numpy as np
import pytest
import torch
from scipy.special import softmax

from lit_fed.losses import TopK, mixture, mixture_top_k, top_k


def test_mixture_agrees_with_numpy() -> None:
    draw = np.random.default_rng(0)
    probs, weights = softmax(draw.normal(size=(3, 4, 5)), -1), np.array([1.0, 0.0, 3.0])
    got = mixture(torch.tensor(probs).log(), torch.tensor(weights)).exp()
    assert np.allclose(got.numpy(), np.average(probs, axis=0, weights=weights))


def test_mixture_lives_through_underflow_and_ignores_models_without_weight() -> None:
    log_probs = torch.tensor([[-2000.0, 0.0], [-1000.0, 0.0], [torch.nan, torch.nan]])
    got = mixture(log_probs, torch.tensor([1.0, 1.0, 0.0]))
    assert got[0].item() == pytest.approx(-1000 - np.log(2))


def test_mixture_of_top_k_agrees_with_the_dense_one_where_all_is_listed() -> None:
    torch.manual_seed(0)
    logits, weights = torch.randn(3, 2, 4, 6, dtype=torch.float64), torch.tensor([1.0, 2.0, 5.0])
    dense = mixture(logits.log_softmax(-1), weights).exp()
    sparse = mixture_top_k([top_k(z, 6) for z in logits], weights, k=3)
    expected = dense.topk(3, -1)
    assert torch.allclose(sparse.probs, expected.values)
    assert torch.equal(sparse.indices, expected.indices)


def test_mixture_of_top_k_by_hand() -> None:
    a = TopK(torch.tensor([[4, 2]]), torch.tensor([[0.5, 0.3]]))
    b = TopK(torch.tensor([[2, 7]]), torch.tensor([[0.9, 0.1]]))
    got = mixture_top_k([a, b], torch.tensor([3.0, 1.0]), k=9)
    listed = dict(zip(got.indices[0].tolist(), got.probs[0].tolist(), strict=False))
    assert got.probs[0].tolist() == pytest.approx([0.45, 0.375, 0.025, 0.0])
    assert got.indices[0, :3].tolist() == [2, 4, 7]
    assert set(listed) <= {2, 4, 7}  # the empty place repeats a listed token
    assert got.tail.item() == pytest.approx(0.15)


def test_order_of_the_models_does_not_matter() -> None:
    torch.manual_seed(0)
    cuts, weights = [top_k(torch.randn(5, 30), 4) for _ in range(3)], torch.tensor([0.2, 0.3, 0.5])
    one = mixture_top_k(cuts, weights, 6)
    other = mixture_top_k(cuts[::-1], weights.flip(0), 6)
    assert torch.allclose(one.probs, other.probs)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0]])
def test_bad_weights_are_named(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="`weights` are expected"):
        mixture(torch.zeros(2, 3), torch.tensor(weights))
    with pytest.raises(ValueError, match="`weights` are expected"):
        mixture_top_k([top_k(torch.zeros(1, 3), 2)] * 2, torch.tensor(weights), 2)
