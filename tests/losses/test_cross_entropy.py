import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from lit_fed.losses import cross_entropy, masked_mean


def reference(
    logits: np.ndarray, targets: np.ndarray, mask: np.ndarray, weight: np.ndarray
) -> float:
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    rows = [(b, *rest) for b, *rest in np.argwhere(mask)]
    nats = [-log_p[tuple(i)][targets[tuple(i)]] for i in rows]
    return float(np.average(nats, weights=[weight[i[0]] for i in rows]))


@pytest.mark.parametrize("shape", [(4,), (4, 6)], ids=["classification", "language model"])
def test_agrees_with_numpy(shape: tuple[int, ...]) -> None:
    draw = np.random.default_rng(0)
    logits, targets = draw.normal(size=(*shape, 5)), draw.integers(0, 5, shape)
    mask, weight = draw.random(shape) < 0.6, draw.random(4)
    got = cross_entropy(*(torch.tensor(x) for x in (logits, targets, mask, weight)))
    assert got.item() == pytest.approx(reference(logits, targets, mask, weight), rel=1e-5)


def test_what_is_masked_has_no_influence() -> None:
    logits, mask = torch.randn(2, 3, 5), torch.tensor([[True, True, False], [True, False, False]])
    targets = torch.randint(0, 5, (2, 3))
    padded = cross_entropy(logits, targets.masked_fill(~mask, -100), mask)
    wild = logits.masked_fill(~mask.unsqueeze(-1), float("inf"))
    assert torch.equal(padded, cross_entropy(logits, targets, mask))
    assert cross_entropy(wild, targets, mask).item() == pytest.approx(padded.item())


def test_nothing_to_learn_from_is_zero_with_zero_gradient() -> None:
    logits = torch.randn(2, 5, requires_grad=True)
    loss = cross_entropy(logits, torch.tensor([-100, -100]), torch.tensor([False, False]))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros(2, 5))


def test_gradient_against_finite_differences() -> None:
    values = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(3, 4) < 0.5
    weight = torch.rand(3, dtype=torch.float64)
    assert gradcheck(lambda v: masked_mean(v.square(), mask, weight), values)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"`targets` are expected to have shape \[2\]"):
        cross_entropy(
            torch.zeros(2, 5), torch.zeros(3, dtype=torch.long), torch.ones(3, dtype=torch.bool)
        )
    with pytest.raises(
        ValueError, match=r"`mask` is expected to have the shape of `values`, \[2\]"
    ):
        masked_mean(torch.zeros(2), torch.ones(3, dtype=torch.bool))
