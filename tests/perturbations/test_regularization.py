import pytest
import torch
from torch import Tensor

from lit_fed.losses import stability, weight_regularization
from lit_fed.perturbations import (
    GaussianNoise,
    Perturbation,
    WeightNoise,
)
from tests.perturbations.passes import KINDS, two_passes
from tests.perturbations.tiny_models import build


@pytest.mark.parametrize("kind", [GaussianNoise, WeightNoise])
@pytest.mark.parametrize("rho", [0.001, 0.1])
def test_recorded_sizes_are_the_sum_of_the_squared_magnitudes(
    kind: type[Perturbation], rho: float
) -> None:
    _, _, injection = two_passes(build("llama"), kind(scale=rho), ("attention", "feed_forward"))
    value = weight_regularization(
        injection.delta_square, injection.output_square, {"attention": 3.0}
    )
    assert injection.delta_square["attention"].shape == (2,)
    assert value.item() == pytest.approx(4 * rho**2, rel=0.2)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_regularization_has_no_gradient_in_the_model(kind: type[Perturbation]) -> None:
    _, _, fixed = two_passes(build("llama"), kind(), ("attention",))
    assert not weight_regularization(fixed.delta_square, fixed.output_square).requires_grad
    model = build("llama")
    _, _, learnt = two_passes(model, kind(scale=0.5, learn_scale=True), ("attention",))
    value = weight_regularization(learnt.delta_square, learnt.output_square)
    value.backward()
    assert all(p.grad is None for p in model.parameters())
    slope = learnt.magnitudes["attention"].grad
    assert slope.item() == pytest.approx(2 * value.item() / 0.5, rel=1e-4)  # d ρ²c / dρ


@pytest.mark.parametrize("kind", KINDS)
def test_stability_reaches_the_weights_through_both_passes(kind: type[Perturbation]) -> None:
    model = build("bert")
    clean, perturbed, _ = two_passes(model, kind(), ("attention",))
    mask = torch.ones(3, dtype=torch.bool)
    loss = stability(clean, perturbed, mask)
    both = torch.autograd.grad(loss, model.classifier.weight, retain_graph=True)[0]
    one = torch.autograd.grad(
        stability(clean.detach(), perturbed, mask), model.bert.embeddings.word_embeddings.weight
    )[0]
    assert both.abs().sum() > 0
    assert one.abs().sum() > 0


@pytest.mark.parametrize("beta", [0.0, 1e4])
def test_a_learnt_scale_ascends_stability_minus_its_price(beta: float) -> None:
    model = build("llama")
    perturbation = GaussianNoise(0.2, learn_scale=True, rho_min=0.15, rho_max=0.25, scale_lr=0.03)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *perturbation.parameters()], lr=1e-3, weight_decay=0.1
    )
    for _ in range(3):
        clean, perturbed, injection = two_passes(model, perturbation, ("attention",), dropout=False)
        mask = torch.ones(3, dtype=torch.bool)
        stable = stability(clean, perturbed, mask)
        size = weight_regularization(injection.delta_square, injection.output_square)
        before = {n: p.grad for n, p in model.named_parameters()}
        injection.ascend(stable - beta * size)
        assert {n: p.grad for n, p in model.named_parameters()} == before
        (stable + beta * size).backward()  # the graph is still there
        optimizer.step()
        optimizer.zero_grad()
    assert perturbation.magnitudes["attention"].item() == pytest.approx(0.15 if beta else 0.25)
    assert torch.equal(
        perturbation.magnitudes["norm"], torch.tensor(0.2)
    )  # not injected, not moved
    assert all(p.grad is None for p in perturbation.parameters())


def test_the_slope_of_a_learnt_scale_against_finite_differences() -> None:
    model = build("gpt2").double()

    def objective(scale: float) -> tuple[Tensor, object]:
        # not Gaussian noise on outputs: a later module's RMS, held constant, depends on the scale
        perturbation = WeightNoise(scale, learn_scale=True).double()
        perturbation.magnitudes["attention"].data.fill_(scale)
        clean, perturbed, injection = two_passes(model, perturbation, ("attention",), dropout=False)
        return stability(clean, perturbed, torch.ones(3, 7, dtype=torch.bool)), injection

    value, injection = objective(0.3)
    slope = torch.autograd.grad(value, injection.magnitudes["attention"])[0].item()
    step = 1e-4
    high, low = objective(0.3 + step)[0].item(), objective(0.3 - step)[0].item()
    assert slope == pytest.approx((high - low) / (2 * step), rel=1e-4)
