"""Structural perturbations: what to add to a model's modules, where, and for one pass only."""

from lit_fed.backbones.anatomy import SITES, Site, find_modules
from lit_fed.perturbations.drop_block import DropBlock
from lit_fed.perturbations.gaussian_noise import GaussianNoise
from lit_fed.perturbations.injection import Injection, inject
from lit_fed.perturbations.low_rank_reconstruction import LowRankReconstruction
from lit_fed.perturbations.perturbation import OutputPerturbation, Perturbation
from lit_fed.perturbations.randomness import Randomness
from lit_fed.perturbations.weight_noise import WeightNoise

__all__ = [
    "SITES",
    "DropBlock",
    "GaussianNoise",
    "Injection",
    "LowRankReconstruction",
    "OutputPerturbation",
    "Perturbation",
    "Randomness",
    "Site",
    "WeightNoise",
    "find_modules",
    "inject",
]
