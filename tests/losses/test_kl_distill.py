from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax
from torch.autograd import gradcheck, gradgradcheck

from lit_fed.losses import KLDistillMixin, TopK, kl_distill, kl_distill_from_probs, top_k


def reference(
    student: np.ndarray, teacher: np.ndarray, mask: np.ndarray, t: float, weight: np.ndarray
) -> float:
    rows = rel_entr(softmax(teacher / t, -1), softmax(student / t, -1)).sum(-1)
    shares = mask * weight.reshape(-1, *[1] * (mask.ndim - 1))
    return float(t**2 * (rows * shares).sum() / shares.sum())


@pytest.mark.parametrize("shape", [(6,), (4, 5)], ids=["classification", "language model"])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_agrees_with_scipy(shape: tuple[int, ...], temperature: float) -> None:
    draw = np.random.default_rng(0)
    student, teacher = 3 * draw.normal(size=(2, *shape, 7))
    mask, weight = draw.random(shape) < 0.7, draw.random(shape[0])
    expected = reference(student, teacher, mask, temperature, weight)
    s, t, m, w = (torch.tensor(x) for x in (student, teacher, mask, weight))
    assert kl_distill(s, t, m, temperature, w).item() == pytest.approx(expected, rel=1e-12)
    assert kl_distill(s.float(), t.float(), m, temperature, w).item() == pytest.approx(
        expected, rel=1e-5
    )
    probs = torch.tensor(softmax(teacher / temperature, -1))
    logs = torch.tensor(log_softmax(teacher / temperature, -1))
    from_probs = kl_distill_from_probs(s, probs, m, temperature, w)
    from_logs = kl_distill_from_probs(s, logs, m, temperature, w, log_target=True)
    everything = kl_distill_from_probs(s, top_k(t, 7, temperature), m, temperature, w)
    for form in (from_probs, from_logs, everything):
        assert form.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_identical_logits_give_exactly_zero_and_no_gradient(dtype: torch.dtype) -> None:
    teacher = (5 * torch.randn(8, 33, generator=torch.Generator().manual_seed(0))).to(dtype)
    student = teacher.clone().requires_grad_()
    loss = kl_distill(student, teacher, torch.ones(8, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert torch.count_nonzero(student.grad) == 0


def test_gradient_against_finite_differences() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    mask, weight = torch.rand(3, 4) < 0.7, torch.rand(3, dtype=torch.float64)
    student.requires_grad_()
    assert gradcheck(lambda s: kl_distill(s, teacher, mask, 2.0, weight), student)
    assert gradgradcheck(lambda s: kl_distill(s, teacher, mask, 2.0, weight), student)
    cut = top_k(teacher, 2, 2.0)
    assert gradcheck(lambda s: kl_distill_from_probs(s, cut, mask, 2.0, weight), student)


def test_per_example_gradients_by_vmap_are_those_one_by_one() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 1, 5)
    mask = torch.ones(1, dtype=torch.bool)
    slope = torch.func.grad(lambda s, t: kl_distill(s, t, mask))
    each = torch.stack([slope(s, t) for s, t in zip(student, teacher, strict=True)])
    assert torch.allclose(torch.vmap(slope)(student, teacher), each, atol=1e-7)


def test_the_teacher_gets_no_gradient() -> None:
    student, teacher = torch.randn(2, 2, 5, requires_grad=True).unbind()
    teacher = teacher.detach().requires_grad_()
    kl_distill(student, teacher, torch.ones(2, dtype=torch.bool)).backward()
    assert teacher.grad is None


def test_what_is_masked_has_no_influence_not_even_nan() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 5)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    holes = ~mask.unsqueeze(-1)
    for target in (teacher.masked_fill(holes, torch.nan), top_k(teacher, 2, 3.0)):
        wild = student.masked_fill(holes, torch.inf).requires_grad_()
        if isinstance(target, TopK):
            got, plain = (kl_distill_from_probs(s, target, mask) for s in (wild, student))
        else:
            got, plain = kl_distill(wild, target, mask), kl_distill(student, teacher, mask)
        got.backward()
        assert got.item() == pytest.approx(plain.item())
        assert wild.grad is not None
        assert wild.grad.isfinite().all()
        assert torch.count_nonzero(wild.grad[~mask]) == 0


def test_shifting_logits_or_permuting_classes_changes_nothing() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 6, dtype=torch.float64)
    mask, order = torch.ones(4, dtype=torch.bool), torch.randperm(6)
    value = kl_distill(student, teacher, mask)
    assert torch.allclose(kl_distill(student + 7, teacher - 3, mask), value)
    assert torch.allclose(kl_distill(student[:, order], teacher[:, order], mask), value)


def test_impossible_classes_of_the_teacher_count_nothing() -> None:
    student = torch.zeros(1, 3, requires_grad=True)
    teacher = torch.tensor([[0.0, 0.0, -torch.inf]])
    loss = kl_distill(student, teacher, torch.tensor([True]), temperature=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(np.log(3 / 2))
    assert student.grad is not None
    assert torch.allclose(student.grad, torch.tensor([[1 / 3 - 1 / 2, 1 / 3 - 1 / 2, 1 / 3]]))


def test_half_precision_predictions_are_normalised_and_compared_in_float32() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 50)
    mask = torch.ones(4, dtype=torch.bool)
    exact = kl_distill(student, teacher, mask).item()
    half = kl_distill_from_probs(student, (teacher / 3).softmax(-1).half(), mask)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(exact, rel=2e-3)


def test_mixin_weighs_its_term_and_costs_nothing_when_off() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 6)
    mask = torch.ones(4, dtype=torch.bool)
    here, there = SimpleNamespace(logits=student, mask=mask), SimpleNamespace(logits=teacher)
    on = KLDistillMixin(lambda_distill=0.25, temperature=2.0)
    assert torch.equal(
        on.kl_distill_loss(here, there), 0.25 * kl_distill(student, teacher, mask, 2)
    )
    complete = on.kl_distill_loss(here, top_k(teacher, 6, 2.0))
    assert torch.allclose(complete, on.kl_distill_loss(here, there))
    assert KLDistillMixin(lambda_distill=0.0).kl_distill_loss(here, None).item() == 0
    with pytest.raises(ValueError, match=r"`teacher` is expected where `model.lambda_distill` > 0"):
        on.kl_distill_loss(here, None)


def test_bad_input_is_named() -> None:
    mask = torch.ones(2, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"fit the student's, which have shape \[2, 5\], but got"):
        kl_distill(torch.zeros(2, 5), torch.zeros(2, 4), mask)
    with pytest.raises(ValueError, match=r"`mask` is expected to have shape \[2\], but got \[3\]"):
        kl_distill(torch.zeros(2, 5), torch.zeros(2, 5), torch.ones(3, dtype=torch.bool))
    cut = top_k(torch.zeros(2, 5), 2)
    with pytest.raises(ValueError, match="`log_target` is expected to be false"):
        kl_distill_from_probs(torch.zeros(2, 5), cut, mask, log_target=True)
    with pytest.raises(
        ValueError, match=r"`model.temperature` is expected to be finite and above 0"
    ):
        KLDistillMixin(temperature=0.0)
    with pytest.raises(ValueError, match=r"`model.lambda_distill` is expected to be finite"):
        KLDistillMixin(lambda_distill=float("nan"))
