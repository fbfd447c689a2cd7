import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lit_fed.losses import cross_entropy, soft_cross_entropy


def test_agrees_with_numpy() -> None:
    draw = np.random.default_rng(0)
    logits, targets = draw.normal(size=(4, 5)), draw.dirichlet(np.ones(5), 4)
    mask, weight = np.array([True, False, True, True]), draw.random(4)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    nats = -(targets * log_p).sum(-1)
    expected = np.average(nats[mask], weights=weight[mask])
    got = soft_cross_entropy(*(torch.tensor(x) for x in (logits, targets, mask, weight)))
    assert got.item() == pytest.approx(expected, rel=1e-6)


def test_with_one_hot_targets_it_is_the_cross_entropy() -> None:
    logits, labels = torch.randn(6, 3), torch.randint(0, 3, (6,))
    soft = F.one_hot(labels, 3).float()
    torch.testing.assert_close(soft_cross_entropy(logits, soft), cross_entropy(logits, labels))


def test_what_is_masked_has_no_influence_and_no_gradient() -> None:
    logits = torch.randn(2, 5, requires_grad=True)
    wild = torch.where(torch.tensor([[True], [False]]), logits, torch.inf)
    targets = torch.full((2, 5), 0.2)
    loss = soft_cross_entropy(wild, targets, torch.tensor([True, False]))
    loss.backward()
    assert loss.item() == pytest.approx(soft_cross_entropy(logits[:1], targets[:1]).item())
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[1].any()


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"`targets` are expected to have shape \[2, 5\]"):
        soft_cross_entropy(torch.zeros(2, 5), torch.zeros(2, dtype=torch.long))
