import numpy as np
import pytest
import torch

from lit_fed.losses import PseudoLabelMixin, cross_entropy, pseudo_label


def test_it_is_the_mean_of_what_confidences_leave() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, generator=draw, dtype=torch.float64, requires_grad=True)
    targets, confidence = torch.tensor([0, 2, 1, -100]), torch.tensor([1.0, 0.5, 0.0, 0.9])
    found = pseudo_label(logits, targets, confidence=confidence)
    z = logits.detach().numpy()
    logs = z - np.log(np.exp(z).sum(-1, keepdims=True))
    expected = -(logs[0, 0] + 0.5 * logs[1, 2]) / 3
    assert found.item() == pytest.approx(expected)
    found.backward()
    assert logits.grad is not None
    # neither a row that nobody is sure of nor one that is masked moves anything
    assert (logits.grad[2:] == 0).all()
    assert (logits.grad[:2] != 0).all()


def test_confidences_that_are_half_halve_it() -> None:
    logits, targets = torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    half = pseudo_label(logits, targets, confidence=torch.full((2,), 0.5))
    torch.testing.assert_close(2 * half, cross_entropy(logits, targets))
    torch.testing.assert_close(pseudo_label(logits, targets), cross_entropy(logits, targets))


def test_nothing_to_learn_is_zero_and_shapes_are_checked() -> None:
    assert float(pseudo_label(torch.ones(2, 3), torch.full((2,), -100))) == 0
    with pytest.raises(ValueError, match=r"`targets` are expected to have shape \[2\]"):
        pseudo_label(torch.ones(2, 3), torch.zeros(3, dtype=torch.long))


def test_the_mixin_weighs() -> None:
    logits, targets, sure = torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.rand(4)
    whole = PseudoLabelMixin(eta=0.5)
    torch.testing.assert_close(
        whole.pseudo_label_loss(logits, targets, confidence=sure),
        0.5 * pseudo_label(logits, targets, confidence=sure),
    )
    plain = PseudoLabelMixin(weigh_by_confidence=False)
    torch.testing.assert_close(
        plain.pseudo_label_loss(logits, targets, confidence=sure), pseudo_label(logits, targets)
    )
    off = PseudoLabelMixin(eta=0.0).pseudo_label_loss(logits.requires_grad_(), targets)
    assert not off.requires_grad
    for eta in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"`model\.eta`"):
            PseudoLabelMixin(eta=eta)
