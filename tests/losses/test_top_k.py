from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from lit_fed.losses import TopK, kl_distill, kl_distill_from_probs, mixture_top_k, top_k


def lumped(logits: np.ndarray, listed: np.ndarray, temperature: float) -> np.ndarray:
    """The listed probabilities and one of all others, each to the power 1/T, normalised."""
    probs = softmax(logits, -1)
    chosen = np.take_along_axis(probs, listed, -1)
    every = np.concatenate([chosen, 1 - chosen.sum(-1, keepdims=True)], -1) ** (1 / temperature)
    return every / every.sum(-1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.0])
def test_top_k_and_tail_agree_with_numpy(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 9))
    cut = top_k(torch.tensor(logits), 4, temperature)
    order = np.argsort(-logits, -1)[..., :4]
    assert np.array_equal(cut.indices.numpy(), order)
    expected = lumped(logits, order, temperature)
    assert np.allclose(cut.probs.numpy(), expected[..., :4])
    assert np.allclose(cut.tail.numpy(), expected[..., 4])
    whole = top_k(torch.tensor(logits), 9, temperature)
    assert np.allclose(whole.probs.numpy(), np.sort(softmax(logits / temperature, -1))[..., ::-1])


def test_the_listed_tokens_of_a_large_vocabulary_keep_their_mass_at_any_temperature() -> None:
    """One token of 0.6 and 49,151 others, as a language model has them."""
    vocabulary = 49_152
    probs = torch.full((vocabulary,), 0.1 / (vocabulary - 32))
    probs[:32] = torch.tensor([0.6, *[0.3 / 31] * 31])
    softened_first = (probs.log() / 3).softmax(-1)[:32].sum()
    assert softened_first < 0.06
    cut = top_k(probs.log(), 32, 3.0)
    assert 1 - cut.tail > 0.9
    assert cut.probs[0] > 3 * cut.probs[1]


def test_divergence_of_a_cut_teacher_is_that_of_the_lumped_distributions() -> None:
    draw = np.random.default_rng(1)
    student, teacher = 2 * draw.normal(size=(2, 5, 9))
    t, cut = 3.0, top_k(torch.tensor(teacher), 3, temperature=3.0)
    p, q = (lumped(logits, cut.indices.numpy(), t) for logits in (teacher, student))
    mask = torch.ones(5, dtype=torch.bool)
    got = kl_distill_from_probs(torch.tensor(student), cut, mask, t)
    assert got.item() == pytest.approx(t**2 * rel_entr(p, q).sum(-1).mean(), rel=1e-10)
    assert kl_distill_from_probs(torch.tensor(teacher), cut, mask, t).item() == pytest.approx(0)


def test_a_token_listed_twice_or_with_nothing_counts_once_or_with_the_tail() -> None:
    """A mixture of fewer distinct tokens than it keeps repeats one, with probability 0."""
    student = torch.randn(1, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    a = TopK(torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.2]]))
    mixed = mixture_top_k([a, a], torch.ones(2), k=4)
    mask = torch.tensor([True])
    got, expected = (kl_distill_from_probs(student, one, mask) for one in (mixed, a))
    torch.testing.assert_close(got, expected)
    (gradient,) = torch.autograd.grad(got, student)
    assert gradient.isfinite().all()


def test_more_listed_probabilities_come_closer_to_the_full_divergence() -> None:
    torch.manual_seed(0)
    student, teacher = 2 * torch.randn(2, 16, 40, dtype=torch.float64)
    mask = torch.ones(16, dtype=torch.bool)

    def divergence(k: int, temperature: float) -> float:
        cut = top_k(teacher, k, temperature)
        return kl_distill_from_probs(student, cut, mask, temperature).item()

    values = [divergence(k, 1.0) for k in (1, 4, 16, 39, 40, 99)]
    assert all(low <= high + 1e-12 for low, high in pairwise(values))
    for t in (1.0, 3.0):
        full = kl_distill(student, teacher, mask, t).item()
        assert divergence(40, t) == divergence(99, t) == pytest.approx(full)


def test_a_complete_list_in_half_precision_has_finite_gradients() -> None:
    torch.manual_seed(0)
    student = torch.randn(3, 8, requires_grad=True)
    cut = top_k(torch.randn(3, 8), 8, 3.0)
    rough = TopK(cut.indices.int(), cut.probs.half())
    kl_distill_from_probs(student, rough, torch.ones(3, dtype=torch.bool)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.sum(-1).abs().max() < 1e-6


def test_masked_places_have_no_divergence_and_no_gradient() -> None:
    student = torch.tensor([[torch.nan] * 4, [1.0, 2.0, 3.0, 4.0]], requires_grad=True)
    cut = TopK(torch.tensor([[0, 0], [3, 1]]), torch.tensor([[0.0, 0.0], [0.5, 0.25]]))
    loss = kl_distill_from_probs(student, cut, torch.tensor([False, True]))
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert (student.grad[0] == 0).all()
    assert student.grad[1].abs().sum() > 0


def test_rows_can_be_selected() -> None:
    cut = top_k(torch.randn(4, 6), 2)
    assert torch.equal(cut[torch.tensor([3, 1])].probs, cut.probs[[3, 1]])
    assert torch.equal(cut[1:].to("cpu").indices, cut.indices[1:])


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="`k` is expected to be at least 1, but got 0"):
        top_k(torch.zeros(2, 3), 0)
    with pytest.raises(
        ValueError, match=r"are expected to have one shape, but got \[2\] and \[3\]"
    ):
        TopK(torch.zeros(2, dtype=torch.long), torch.zeros(3))
