from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit, rel_entr, softmax
from torch.autograd import gradcheck

from lit_fed.losses import (
    AggregateKLMixin,
    RunningMean,
    aggregate_kl,
    guidance_strength,
    kl_distill_from_probs,
    top_k,
)


def test_strength_agrees_with_numpy() -> None:
    student, teacher = 4 * np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    delta = np.linalg.norm(softmax(student, -1) - softmax(teacher, -1), axis=-1)
    s, t = torch.tensor(student), torch.tensor(teacher)
    assert np.allclose(guidance_strength(s, t, 2.0).numpy(), expit(2 * delta))
    centred = guidance_strength(s, t, 2.0, center=torch.tensor(0.5)).numpy()
    assert np.allclose(centred, expit(2 * (delta - 0.5)))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 3.0, 20.0])
def test_strength_lies_between_a_half_and_its_bound(gamma: float) -> None:
    torch.manual_seed(0)
    student, teacher = 30 * torch.randn(2, 1000, 4)
    extremes = torch.tensor([[99.0, 0, 0, 0], [0, 99.0, 0, 0]])
    student, teacher = torch.cat([student, extremes]), torch.cat([teacher, extremes.flip(0)])
    alpha = guidance_strength(student, teacher, gamma)
    bound = torch.sigmoid(gamma * torch.tensor(2.0).sqrt())
    assert alpha.min() >= 0.5
    assert alpha.max() <= bound
    assert alpha[-1] == bound
    assert (guidance_strength(student, student, gamma) == 0.5).all()


def test_strength_has_no_gradient() -> None:
    student = torch.randn(2, 3, requires_grad=True)
    assert not guidance_strength(student, torch.randn(2, 3)).requires_grad


def test_agrees_with_scipy() -> None:
    draw = np.random.default_rng(0)
    student, teacher = draw.normal(size=(2, 4, 6, 5))
    consensus = softmax(teacher, -1)
    alpha, mask, weight = draw.random((4, 6)), draw.random((4, 6)) < 0.6, draw.random(4)
    rows = alpha * 9 * rel_entr(consensus, softmax(student / 3, -1)).sum(-1)
    shares = mask * weight[:, None]
    tensors = (torch.tensor(x) for x in (student, consensus, alpha, mask))
    got = aggregate_kl(*tensors, 3.0, torch.tensor(weight))
    assert got.item() == pytest.approx((rows * shares).sum() / shares.sum(), rel=1e-10)


def test_full_strength_is_plain_distillation_and_it_is_linear_in_alpha() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 6)
    mask, ones = torch.ones(4, dtype=torch.bool), torch.ones(4)
    for consensus in (teacher.softmax(-1), top_k(teacher, 3)):
        plain = kl_distill_from_probs(student, consensus, mask)
        assert torch.equal(aggregate_kl(student, consensus, ones, mask), plain)
        assert torch.allclose(aggregate_kl(student, consensus, 0.5 * ones, mask), 0.5 * plain)


def test_gradient_against_finite_differences_and_none_through_alpha() -> None:
    torch.manual_seed(0)
    student = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    consensus, mask = torch.rand(3, 5, dtype=torch.float64), torch.tensor([True, True, False])
    alpha = torch.rand(3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda s: aggregate_kl(s, consensus, alpha.detach(), mask), student)
    aggregate_kl(student, consensus, alpha, mask).backward()
    assert alpha.grad is None


def test_running_mean_agrees_with_numpy() -> None:
    running, seen = RunningMean(), []
    for seed in range(4):
        draw = np.random.default_rng(seed)
        values, mask = draw.normal(size=(3, 2)), draw.random((3, 2)) < 0.5
        running.update(torch.tensor(values), torch.tensor(mask))
        seen += values[mask].tolist()
    assert running.mean.item() == pytest.approx(np.mean(seen), rel=1e-5)
    running.update(torch.full((2,), torch.nan), torch.zeros(2, dtype=torch.bool))
    assert running.mean.item() == pytest.approx(np.mean(seen), rel=1e-5)


def passes() -> tuple[SimpleNamespace, SimpleNamespace, torch.Tensor]:
    torch.manual_seed(0)
    mask = torch.tensor([True, True, True, False])
    student, teacher, other = torch.randn(3, 4, 6)
    return (
        SimpleNamespace(logits=student, mask=mask),
        SimpleNamespace(logits=teacher, mask=mask),
        (other / 3).softmax(-1),
    )


def test_mixin_weighs_its_term_and_costs_nothing_when_off() -> None:
    student, teacher, consensus = passes()
    on = AggregateKLMixin(lambda_aggregate=0.3, gamma=2.0, temperature=3.0)
    alpha = guidance_strength(student.logits, teacher.logits, 2.0)
    expected = 0.3 * aggregate_kl(student.logits, consensus, alpha, student.mask, 3.0)
    assert torch.equal(on.aggregate_kl_loss(student, teacher, consensus), expected)
    assert on.aggregate_kl_loss(student, None, None).item() == 0  # round 0 has no consensus
    off = AggregateKLMixin(lambda_aggregate=0.0)
    assert off.aggregate_kl_loss(student, None, consensus).item() == 0
    with pytest.raises(
        ValueError, match=r"`teacher` is expected where `model.lambda_aggregate` > 0"
    ):
        on.aggregate_kl_loss(student, None, consensus)


def test_centre_is_the_mean_deviation_so_far() -> None:
    student, teacher, consensus = passes()
    mixin = AggregateKLMixin(lambda_aggregate=1.0, center=True)
    got = mixin.aggregate_kl_loss(student, teacher, consensus)
    gap = student.logits.softmax(-1) - teacher.logits.softmax(-1)
    center = gap.norm(dim=-1)[:3].mean()
    alpha = guidance_strength(student.logits, teacher.logits, 3.0, center)
    assert alpha.min() < 0.5 < alpha.max()
    assert torch.allclose(got, aggregate_kl(student.logits, consensus, alpha, student.mask))
    assert mixin.running_deviation is not None
    assert mixin.running_deviation.count.item() == 3


def test_bad_input_is_named() -> None:
    mask = torch.ones(2, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"`alpha` is expected to have shape \[2\], but got \[3\]"):
        aggregate_kl(torch.zeros(2, 5), torch.full((2, 5), 0.2), torch.ones(3), mask)
    with pytest.raises(
        ValueError, match=r"`teacher_logits` are expected to have the student's shape"
    ):
        guidance_strength(torch.zeros(2, 5), torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"`model.gamma` is expected"):
        AggregateKLMixin(gamma=-1.0)


def test_a_running_mean_counts_past_what_float32_can() -> None:
    running = RunningMean()
    running.count += 2**24
    running.update(torch.tensor([1.0, 5.0]), torch.tensor([True, False]))
    assert running.count.item() == 2**24 + 1
