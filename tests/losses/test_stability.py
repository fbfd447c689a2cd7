from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.autograd import gradcheck

from lit_fed.losses import (
    StabilityMixin,
    WeightRegularizationMixin,
    stability,
)


@pytest.mark.parametrize("on", ["probabilities", "logits"])
@pytest.mark.parametrize("shape", [(6,), (4, 5)], ids=["classification", "language model"])
def test_stability_agrees_with_numpy(shape: tuple[int, ...], on: str) -> None:
    draw = np.random.default_rng(0)
    clean, perturbed = draw.normal(size=(2, *shape, 7))
    mask, weight = draw.random(shape) < 0.7, draw.random(shape[0])
    p, q = (
        (softmax(clean, -1), softmax(perturbed, -1))
        if on == "probabilities"
        else (clean, perturbed)
    )
    rows = ((p - q) ** 2).sum(-1)
    shares = mask * weight.reshape(-1, *[1] * (len(shape) - 1))
    tensors = [torch.tensor(x) for x in (clean, perturbed, mask)]
    got = stability(*tensors, on, torch.tensor(weight))
    assert got.item() == pytest.approx((rows * shares).sum() / shares.sum(), rel=1e-12)


def test_equal_passes_give_exactly_zero_and_no_gradient() -> None:
    clean = torch.randn(5, 9, requires_grad=True)
    loss = stability(clean, clean.clone(), torch.ones(5, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert torch.count_nonzero(clean.grad) == 0


def test_stability_is_symmetric_and_within_bounds() -> None:
    torch.manual_seed(0)
    clean, perturbed = 20 * torch.randn(2, 50, 4)
    mask = torch.ones(50, dtype=torch.bool)
    value = stability(clean, perturbed, mask)
    assert 0 <= value <= 2
    assert torch.equal(value, stability(perturbed, clean, mask))
    assert torch.allclose(stability(clean + 5, perturbed - 5, mask), value, atol=1e-5)


def test_masked_nan_has_no_influence() -> None:
    clean, perturbed = torch.randn(2, 3, 4)
    mask = torch.tensor([True, True, False])
    wild = clean.masked_fill(~mask.unsqueeze(-1), torch.nan).requires_grad_()
    loss = stability(wild, perturbed, mask)
    loss.backward()
    assert torch.equal(loss, stability(clean, perturbed, mask))
    assert wild.grad is not None
    assert wild.grad.isfinite().all()


def test_gradients_against_finite_differences() -> None:
    torch.manual_seed(0)
    passes = torch.randn(2, 3, 4, dtype=torch.float64).unbind()
    for z in passes:
        z.requires_grad_()
    mask, weight = torch.tensor([True, False, True]), torch.rand(3, dtype=torch.float64)
    for on in ("probabilities", "logits"):
        assert gradcheck(lambda a, b, on=on: stability(a, b, mask, on, weight), passes)


def test_mixins_share_mu_and_weigh_their_terms() -> None:
    class Both(StabilityMixin, WeightRegularizationMixin):
        pass

    torch.manual_seed(0)
    mask = torch.ones(3, dtype=torch.bool)
    clean, perturbed = (SimpleNamespace(logits=z, mask=mask) for z in torch.randn(2, 3, 4))
    record = SimpleNamespace(
        delta_square={"norm": torch.tensor([0.01])}, output_square={"norm": torch.tensor([1.0])}
    )
    method = Both(mu=2.0, beta=0.1, site_weights={"norm": 3.0}, stability_on="logits")
    expected = 2 * stability(clean.logits, perturbed.logits, mask, "logits")
    assert torch.equal(method.stability_loss(clean, perturbed), expected)
    assert method.weight_regularization_loss(record).item() == pytest.approx(2 * 0.1 * 3 * 0.01)
    assert method.stability_loss(clean, None).item() == 0
    assert method.weight_regularization_loss(None).item() == 0
    off = Both(mu=0.0)
    assert off.stability_loss(clean, perturbed).item() == 0
    assert off.weight_regularization_loss(record).item() == 0


def test_bad_input_is_named() -> None:
    mask = torch.ones(2, dtype=torch.bool)
    with pytest.raises(ValueError, match="`on` is expected to be 'probabilities' or 'logits'"):
        stability(torch.zeros(2, 3), torch.zeros(2, 3), mask, "ranks")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`perturbed_logits` are expected to have the shape"):
        stability(torch.zeros(2, 3), torch.zeros(2, 4), mask)
    with pytest.raises(ValueError, match=r"`model.stability_on` is expected"):
        StabilityMixin(stability_on="ranks")  # type: ignore[arg-type]
