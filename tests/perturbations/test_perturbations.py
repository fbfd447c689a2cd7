import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn
from transformers.pytorch_utils import Conv1D

from lit_fed.perturbations import (
    DropBlock,
    GaussianNoise,
    LowRankReconstruction,
    Perturbation,
    WeightNoise,
)
from tests.perturbations.tiny_models import seeded

FULL = torch.ones(4, 500, dtype=torch.bool)


def test_gaussian_noise_has_the_outputs_rms_over_real_tokens() -> None:
    output = 5 * torch.randn(4, 500, 32, generator=seeded())
    mask = FULL.clone()
    mask[:, 100:] = False
    wild = output.masked_fill(~mask.unsqueeze(-1), torch.nan)
    delta = GaussianNoise().delta(nn.Identity(), wild, mask, seeded(1)).numpy()
    rms = np.sqrt((output.numpy()[:, :100] ** 2).mean())
    assert delta.std() == pytest.approx(rms, rel=0.02)
    assert abs(delta.mean()) < 0.05
    # normal: the fourth moment is three times the squared second
    assert (delta**4).mean() == pytest.approx(3 * (delta**2).mean() ** 2, rel=0.05)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.7])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_drop_block_drops_at_its_rate_whatever_the_block(rate: float, size: int) -> None:
    output, mask = torch.ones(200, 500, 1), torch.ones(200, 500, dtype=torch.bool)
    drop = DropBlock(rate=rate, block_size=size)
    kept = (output + drop.delta(nn.Identity(), output, mask, seeded())).squeeze(-1) != 0
    assert (~kept).float().mean().item() == pytest.approx(rate, rel=0.05)
    assert (~kept[:, 0]).float().mean().item() == pytest.approx(rate, abs=0.12)  # also at the edge


def test_drop_block_drops_spans_and_makes_up_for_them() -> None:
    output = torch.randn(4, 500, 3, generator=seeded())
    mask = FULL.clone()
    mask[1:, 250:] = False
    perturbed = output + DropBlock(rate=0.2).delta(nn.Identity(), output, mask, seeded())
    kept = (perturbed != 0).all(-1) & mask
    factor = mask.sum() / kept.sum()
    assert torch.allclose(perturbed[kept], output[kept] * factor, rtol=1e-4)
    gone = ~kept[0].numpy()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], gone, [0]]).astype(int)))
    lengths = edges[1::2] - edges[::2]
    assert (lengths[1:-1] >= 3).all()  # those at the ends may be cut


def test_drop_block_that_drops_everything_stays_finite() -> None:
    output = torch.randn(1, 2, 3)
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert torch.equal(
        DropBlock(rate=1 - 1e-9).delta(nn.Identity(), output, mask, seeded()), -output
    )
    assert torch.equal(DropBlock(rate=0.0).delta(nn.Identity(), output, mask, seeded()), 0 * output)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["linear", "conv1d", "embedding"])
def test_low_rank_reconstruction_is_the_truncated_svd(kind: str, bias: bool) -> None:
    torch.manual_seed(0)
    h = torch.randn(2, 3, 6)
    if kind == "linear":
        module = nn.Linear(6, 9, bias=bias)
        matrix = module.weight.T
    elif kind == "conv1d":
        module = Conv1D(9, 6)
        nn.init.normal_(module.bias)
        matrix = module.weight
    else:
        module = nn.Embedding(20, 9)
        matrix = module.weight
        h = torch.randint(0, 20, (2, 3))
    u, s, v = np.linalg.svd(matrix.detach().numpy().astype(np.float64), full_matrices=False)
    gap = (u[:, :2] * s[:2]) @ v[:2] - matrix.detach().numpy()
    expected = gap[h.numpy()] if kind == "embedding" else h.numpy() @ gap
    mask = torch.ones(2, 3, dtype=torch.bool)
    with torch.no_grad():
        got = LowRankReconstruction(rank=2).delta(module, module(h), mask, seeded())
    assert np.allclose(got.numpy(), expected, atol=1e-5)


def test_low_rank_reconstruction_follows_its_weight() -> None:
    torch.manual_seed(0)
    module, mask = nn.Linear(6, 6, bias=False), torch.ones(2, 3, dtype=torch.bool)
    h, low_rank = torch.randn(2, 3, 6), LowRankReconstruction(rank=2)
    old = low_rank.delta(module, module(h), mask, seeded())
    assert torch.equal(low_rank.delta(module, module(h), mask, seeded()), old)
    with torch.no_grad():
        module.weight.copy_(torch.randn(6, 6))
    new = low_rank.delta(module, module(h), mask, seeded())
    fresh = LowRankReconstruction(rank=2).delta(module, module(h), mask, seeded())
    assert torch.equal(new, fresh)


def test_low_rank_reconstruction_names_what_it_cannot_take_apart() -> None:
    with pytest.raises(
        ValueError, match="needs weight matrices, but LayerNorm of site 'norm' has none"
    ):
        list(LowRankReconstruction().perturbed_modules(nn.LayerNorm(3), "norm"))
    packed = nn.Linear(2, 2)
    packed.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match=r"expects floating weights, but Linear .* torch.uint8"):
        list(LowRankReconstruction().perturbed_modules(packed, "attention"))


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match=r"`perturbation.scale` is expected to be finite"):
        GaussianNoise(scale=-0.1)
    with pytest.raises(ValueError, match=r"within \[rho_min, rho_max\] = \[0.2, 1.0\]"):
        WeightNoise(scale=0.1, learn_scale=True, rho_min=0.2)
    with pytest.raises(
        ValueError, match=r"`perturbation.rate` .* at least 0 and below 1, but got 1"
    ):
        DropBlock(rate=1)
    with pytest.raises(ValueError, match=r"`perturbation.block_size` is expected to be at least 1"):
        DropBlock(block_size=0)
    with pytest.raises(ValueError, match=r"`perturbation.rank` is expected to be at least 1"):
        LowRankReconstruction(rank=0)
    with pytest.raises(NotImplementedError, match=r"lit_fed.perturbations.inject"):
        GaussianNoise()(torch.zeros(1))


@pytest.mark.parametrize(
    "kind", ["GaussianNoise", "DropBlock", "LowRankReconstruction", "WeightNoise"]
)
def test_every_perturbation_is_chosen_by_class_path(kind: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--perturbation", type=Perturbation)
    settings = {
        "class_path": f"lit_fed.perturbations.{kind}",
        "init_args": {"scale": 0.5, "learn_scale": True, "rho_max": 0.7},
    }
    made = parser.instantiate_classes(parser.parse_object({"perturbation": settings})).perturbation
    assert type(made).__name__ == kind
    assert made.rho_max == 0.7
    assert set(made.magnitudes) == {"embedding", "attention", "feed_forward", "norm"}
