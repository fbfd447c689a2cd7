"""A clean and a perturbed pass that share their dropout."""

from torch import Tensor, nn

from lit_fed.perturbations import (
    SITES,
    DropBlock,
    GaussianNoise,
    LowRankReconstruction,
    Perturbation,
    Randomness,
    WeightNoise,
    inject,
)
from tests.perturbations.tiny_models import answer, batch, seeded

KINDS = [GaussianNoise, DropBlock, LowRankReconstruction, WeightNoise]


def two_passes(
    model: nn.Module, perturbation: Perturbation, sites: tuple[str, ...], dropout: bool = True
) -> tuple[Tensor, Tensor, object]:
    inputs = batch()
    model.train(dropout)
    randomness = Randomness()
    with randomness.recorded(model):
        clean = answer(model, inputs)
    with (
        randomness.replayed(),
        inject(
            model,
            perturbation,
            sites,
            attention_mask=inputs["attention_mask"],
            generator=seeded(),
        ) as injection,
    ):
        perturbed = answer(model, inputs)
    return clean, perturbed, injection


def sites_of(kind: type[Perturbation]) -> tuple[str, ...]:
    return tuple(s for s in SITES if not (kind is LowRankReconstruction and s == "norm"))
