"""Every pure loss in every floating dtype, under mixed precision, and without a mask."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lit_fed.losses import (
    TopK,
    aggregate_kl,
    alignment,
    cross_entropy,
    guidance_strength,
    kl_distill,
    kl_distill_from_probs,
    kl_divergence,
    masked_mean,
    mean_pool,
    mixture,
    semantic_deviation,
    soft_predictions,
    stability,
    top_k,
    weight_regularization,
)

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
TARGETS = torch.tensor([[0, 3, 1], [4, 4, 2]])
WEIGHT = torch.tensor([0.5, 3.0])
OTHER = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _top_k(logits: Tensor) -> TopK:
    return top_k(logits, 3, 2.0)


MASKED: dict[str, Loss] = {
    "cross_entropy": lambda x, y, m: cross_entropy(x, TARGETS, m, WEIGHT),
    "kl_divergence": lambda x, y, m: kl_divergence(x, y.log_softmax(-1), m, 2.0),
    "kl_divergence of top k": lambda x, y, m: kl_divergence(x, _top_k(y), m, 2.0),
    "kl_distill": lambda x, y, m: kl_distill(x, y, m, 2.0, WEIGHT),
    "kl_distill_from_probs": lambda x, y, m: kl_distill_from_probs(x, y.softmax(-1), m, 2.0),
    "aggregate_kl": lambda x, y, m: aggregate_kl(
        x, y.softmax(-1), guidance_strength(x, y), m, 2.0, WEIGHT
    ),
    "stability": lambda x, y, m: stability(x, y, m, weight=WEIGHT),
    "stability on logits": lambda x, y, m: stability(x, y, m, "logits"),
    "alignment": lambda x, y, m: alignment(x, y, m, weight=WEIGHT),
    "mean_pool": lambda x, y, m: mean_pool(x, m),
    "masked_mean": lambda x, y, m: masked_mean(x[..., 0], m, WEIGHT),
}
UNMASKED: dict[str, Loss] = {
    "semantic_deviation": lambda x, y, _: semantic_deviation(x, y),
    "soft_predictions": lambda x, y, _: soft_predictions(x, 2.0),
    "mixture": lambda x, y, _: mixture(torch.stack([x, y]).log_softmax(-1), WEIGHT),
    "top_k": lambda x, y, _: top_k(x, 3).probs,
    "weight_regularization": lambda x, y, _: weight_regularization(
        {"norm": x.abs().flatten()}, {"norm": y.abs().flatten()}
    ),
}
EVERY = MASKED | UNMASKED


def inputs(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    first = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return 3 * first.to(dtype), 3 * OTHER.to(dtype)


@pytest.mark.parametrize("name", EVERY)
def test_double_precision_stays(name: str) -> None:
    """Also under mixed precision; rounded to 24 bits, the result would differ from itself in the tenth digit."""
    x, y = inputs(torch.float64)
    plain = EVERY[name](x, y, None)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = EVERY[name](x, y, None)
    assert plain.dtype == mixed.dtype == torch.float64
    assert torch.equal(plain, mixed)
    nearby = EVERY[name](x * (1 + 1e-12), y, None)
    assert 0 < float((nearby - plain).abs().max()) < 1e-9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", EVERY)
def test_half_precision_is_widened_first(name: str, dtype: torch.dtype) -> None:
    """The result is that of the same numbers in float32, also where mixed precision would round on the way."""
    x, _ = inputs(dtype)
    _, y = inputs(torch.float32)
    own = EVERY[name](x, y, None)
    assert own.dtype == torch.float32
    torch.testing.assert_close(own, EVERY[name](x.float(), y, None), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", MASKED)
def test_no_mask_is_a_mask_of_all(name: str) -> None:
    x, y = inputs(torch.float64)
    everything = torch.ones(2, 3, dtype=torch.bool)
    torch.testing.assert_close(
        MASKED[name](x, y, None), MASKED[name](x, y, everything), rtol=1e-15, atol=1e-15
    )


def test_without_a_mask_the_ignored_target_of_torch_is_left_out() -> None:
    logits, targets = inputs(torch.float64)[0], TARGETS.clone()
    targets[0, 1] = -100
    expected = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    assert cross_entropy(logits, targets).item() == pytest.approx(expected.item(), rel=1e-14)


def test_many_values_of_half_precision_are_counted() -> None:
    """257 is no number of bfloat16, which has eight bits."""
    values = torch.ones(257, dtype=torch.bfloat16)
    assert masked_mean(values).item() == 1
    assert masked_mean(values, torch.ones(257, dtype=torch.bool)).item() == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_projector_computes_in_its_own_dtype(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, 6).to(dtype), torch.randn(2, 4, 3)
    projector = nn.Linear(6, 3).to(dtype)
    plain = alignment(student, teacher, projector=projector)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = alignment(student, teacher, projector=projector)
    assert torch.equal(plain, mixed)
    assert plain.dtype == torch.promote_types(dtype, torch.float32)
