from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from lit_fed.losses import TopK, kl_distill, kl_distill_from_probs, top_k


def test_top_k_and_tail_agree_with_numpy() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, 9))
    probs = softmax(logits / 2.0, -1)
    cut = top_k(torch.tensor(logits), 4, temperature=2.0)
    order = np.argsort(-probs, -1)[..., :4]
    assert np.array_equal(cut.indices.numpy(), order)
    assert np.allclose(cut.probs.numpy(), np.take_along_axis(probs, order, -1))
    assert np.allclose(cut.tail.numpy(), np.sort(probs, -1)[..., :5].sum(-1))


def test_divergence_of_a_cut_teacher_is_that_of_the_lumped_distributions() -> None:
    draw = np.random.default_rng(1)
    student, teacher = 2 * draw.normal(size=(2, 5, 9))
    t, cut = 3.0, top_k(torch.tensor(teacher), 3, temperature=3.0)
    p, q = softmax(teacher / t, -1), softmax(student / t, -1)
    listed = cut.indices.numpy()
    lump = [
        np.concatenate(
            [
                np.take_along_axis(d, listed, -1),
                1 - np.take_along_axis(d, listed, -1).sum(-1, keepdims=True),
            ],
            -1,
        )
        for d in (p, q)
    ]
    expected = t**2 * rel_entr(*lump).sum(-1).mean()
    mask = torch.ones(5, dtype=torch.bool)
    got = kl_distill_from_probs(torch.tensor(student), cut, mask, t)
    assert got.item() == pytest.approx(expected, rel=1e-10)
    assert 0 <= got <= kl_distill(torch.tensor(student), torch.tensor(teacher), mask, t)


def test_more_listed_probabilities_come_closer_to_the_full_divergence() -> None:
    torch.manual_seed(0)
    student, teacher = 2 * torch.randn(2, 16, 40, dtype=torch.float64)
    mask = torch.ones(16, dtype=torch.bool)
    values = [
        kl_distill_from_probs(student, top_k(teacher, k, 3.0), mask).item()
        for k in (1, 4, 16, 39, 40, 99)
    ]
    assert all(low <= high + 1e-12 for low, high in pairwise(values))
    assert values[-2] == values[-1] == pytest.approx(kl_distill(student, teacher, mask).item())


def test_a_complete_list_in_half_precision_has_finite_gradients() -> None:
    torch.manual_seed(0)
    student = torch.randn(3, 8, requires_grad=True)
    cut = top_k(torch.randn(3, 8), 8, 3.0)
    rough = TopK(cut.indices.int(), cut.probs.half())
    kl_distill_from_probs(student, rough, torch.ones(3, dtype=torch.bool)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.sum(-1).abs().max() < 1e-6


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
