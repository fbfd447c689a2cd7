import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from lit_fed.losses import ProximalMixin, proximal


def test_it_agrees_with_numpy_and_moves_with_neither() -> None:
    draw = np.random.default_rng(0)
    shapes = {"a": (2, 3), "b": (4,), "c": ()}
    now, then = ({n: draw.normal(size=s) for n, s in shapes.items()} for _ in range(2))
    expected = sum(((now[n] - then[n]) ** 2).sum() for n in shapes) / 2
    theta, anchors = ({n: torch.tensor(v) for n, v in one.items()} for one in (now, then))
    assert proximal(theta, anchors).item() == pytest.approx(expected, rel=1e-12)
    both = ({n: v + 3.0 for n, v in one.items()} for one in (theta, anchors))
    assert proximal(*both).item() == pytest.approx(expected, rel=1e-12)
    # what has no anchor does not count
    del anchors["a"]
    assert proximal(theta, anchors).item() < expected
    assert proximal(theta, {}).item() == 0


def test_its_gradient_is_the_distance() -> None:
    theta = torch.randn(3, dtype=torch.float64, requires_grad=True)
    anchor = torch.randn(3, dtype=torch.float64)
    assert gradcheck(lambda t: proximal({"w": t}, {"w": anchor}), theta)
    proximal({"w": theta}, {"w": anchor}).backward()
    torch.testing.assert_close(theta.grad, theta.detach() - anchor)


def test_it_is_summed_in_full_and_weighted_by_mu() -> None:
    theta = {"w": torch.full((4096,), 0.5, dtype=torch.bfloat16)}
    anchors = {"w": torch.zeros(4096, dtype=torch.bfloat16)}
    assert proximal(theta, anchors).dtype == torch.float32
    assert proximal(theta, anchors).item() == 512
    assert ProximalMixin(mu=0.25).proximal_loss(theta, anchors).item() == 128
    off = ProximalMixin(mu=0.0).proximal_loss(theta, anchors)
    assert off.item() == 0
    assert not off.requires_grad


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"'w' of shape \[2\] as its anchor has, but got none"):
        proximal({}, {"w": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"'w' of shape \[2\] as its anchor has, but got \[1\]"):
        proximal({"w": torch.zeros(1)}, {"w": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"`model.mu` is expected to be .* at least 0, but got -1"):
        ProximalMixin(mu=-1.0)
