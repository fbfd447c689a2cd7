from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from lit_fed.losses import AlignmentMixin, alignment, fit_projector, mean_pool


def draw(shape: tuple[int, ...] = (4, 5, 6)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, *shape, generator=source, dtype=torch.float64)
    lengths = torch.tensor([5, 3, 1, 0])
    return student, teacher, torch.arange(5) < lengths.unsqueeze(-1)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_agrees_with_numpy(reduction: str) -> None:
    student, teacher, mask = draw()
    weight = np.array([1.0, 2.0, 0.5, 9.0])
    distances = []
    for b, length in enumerate([5, 3, 1]):
        gap = (student[b, :length].mean(0) - teacher[b, :length].mean(0)).numpy() ** 2
        distances.append(getattr(gap, reduction)())
    expected = np.average(distances, weights=weight[:3])  # the empty example does not count
    got = alignment(student, teacher, mask.long(), reduction, torch.tensor(weight))
    assert got.item() == pytest.approx(expected, rel=1e-12)


def test_sum_is_d_times_mean_and_pooled_states_give_the_same() -> None:
    student, teacher, mask = draw()
    value = alignment(student, teacher, mask)
    assert torch.allclose(alignment(student, teacher, mask, "sum"), 6 * value)
    pooled = mean_pool(teacher, mask)
    assert torch.equal(alignment(student, pooled, mask), value)
    assert torch.equal(alignment(mean_pool(student, mask), pooled, mask), value)


def test_identical_states_give_exactly_zero_and_no_gradient() -> None:
    student, _, mask = draw()
    teacher = student.clone()
    student.requires_grad_()
    loss = alignment(student, teacher, mask)
    loss.backward()
    assert loss.item() == 0
    assert torch.count_nonzero(student.grad) == 0


def test_padding_has_no_influence_not_even_nan() -> None:
    student, teacher, mask = draw()
    wild = student.masked_fill(~mask.unsqueeze(-1), torch.nan).requires_grad_()
    loss = alignment(wild, teacher, mask)
    loss.backward()
    assert torch.equal(loss, alignment(student, teacher, mask))
    assert wild.grad is not None
    assert torch.count_nonzero(wild.grad[~mask]) == 0
    assert wild.grad.isfinite().all()


def test_gradient_against_finite_differences() -> None:
    student, teacher, mask = draw((4, 5, 3))
    weight = torch.rand(4, dtype=torch.float64)
    student.requires_grad_()
    for reduction in ("mean", "sum"):
        assert gradcheck(lambda s, r=reduction: alignment(s, teacher, mask, r, weight), student)


def test_a_rotation_of_both_changes_nothing() -> None:
    student, teacher, mask = draw()
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    assert torch.allclose(
        alignment(student @ turn, teacher @ turn, mask), alignment(student, teacher, mask)
    )


def test_bfloat16_is_compared_in_float32_and_the_teacher_gets_no_gradient() -> None:
    student, teacher, mask = draw()
    near, far = student.bfloat16().requires_grad_(), teacher.bfloat16().requires_grad_()
    loss = alignment(near, far, mask)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(alignment(student, teacher, mask).item(), rel=2e-2)
    assert far.grad is None


def test_another_width_needs_a_projector() -> None:
    student, teacher, mask = draw()
    narrow = teacher[..., :2]
    with pytest.raises(ValueError, match=r"give a projector from 6 to 2"):
        alignment(student, narrow, mask)
    pick = nn.Linear(6, 2, bias=False).double()
    pick.weight.data = torch.eye(6, dtype=torch.float64)[:2]
    got = alignment(student, narrow, mask, projector=pick)
    assert torch.allclose(got, alignment(student[..., :2], narrow, mask))


def test_fitted_projector_is_the_ridge_regression() -> None:
    from sklearn.linear_model import Ridge

    source = np.random.default_rng(0).normal(size=(40, 5))
    target = source @ np.random.default_rng(1).normal(size=(5, 3)) + 0.1 * source[:, :3] ** 2 + 4
    centred = source - source.mean(0)
    penalty = 0.01 * np.mean((centred**2).sum(0))
    expected = Ridge(alpha=penalty).fit(source, target)
    projector = fit_projector(torch.tensor(source), torch.tensor(target), ridge=0.01)
    assert np.allclose(projector.weight.numpy(), expected.coef_, atol=1e-6)
    assert np.allclose(projector.bias.numpy(), expected.intercept_, atol=1e-6)
    assert not any(p.requires_grad for p in projector.parameters())


def test_mixin_weighs_its_term_and_costs_nothing_when_off() -> None:
    student, teacher, mask = draw()
    here = SimpleNamespace(logits=torch.zeros(4, 2), hidden=student, attention_mask=mask)
    on = AlignmentMixin(lambda_align=0.2, align_reduction="sum")
    expected = 0.2 * alignment(student, teacher, mask, "sum")
    assert torch.equal(on.alignment_loss(here, SimpleNamespace(hidden=teacher)), expected)
    assert torch.equal(on.alignment_loss(here, mean_pool(teacher, mask)), expected)
    assert AlignmentMixin(lambda_align=0.0).alignment_loss(here, None).item() == 0
    with pytest.raises(ValueError, match="`teacher` is expected to have hidden states"):
        on.alignment_loss(here, None)
    here.hidden = None
    with pytest.raises(ValueError, match="`student` is expected to have hidden states"):
        on.alignment_loss(here, teacher)


def test_bad_input_is_named() -> None:
    student, teacher, mask = draw()
    with pytest.raises(
        ValueError, match="`reduction` is expected to be 'mean' or 'sum', but got 'max'"
    ):
        alignment(student, teacher, mask, "max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`hidden` is expected to have shape \[\*\[4, 4\], d\]"):
        mean_pool(student, mask[:, :4])
    with pytest.raises(ValueError, match=r"`model.align_reduction` is expected"):
        AlignmentMixin(align_reduction="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`source` and `target` are expected to be"):
        fit_projector(torch.zeros(3, 2), torch.zeros(4, 2))
