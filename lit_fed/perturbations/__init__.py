"""Structural perturbations of a model's modules, put in for one forward pass.

May import the backbones, and is not imported by them.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.backbones.anatomy import SITES, Site, find_modules
    from lit_fed.perturbations.drop_block import DropBlock
    from lit_fed.perturbations.gaussian_noise import GaussianNoise
    from lit_fed.perturbations.injection import Injection, inject
    from lit_fed.perturbations.low_rank_reconstruction import LowRankReconstruction
    from lit_fed.perturbations.perturbation import OutputPerturbation, Perturbation, PerturbedPass
    from lit_fed.perturbations.randomness import Randomness
    from lit_fed.perturbations.weight_noise import WeightNoise
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "SITES",
    "DropBlock",
    "GaussianNoise",
    "Injection",
    "LowRankReconstruction",
    "OutputPerturbation",
    "Perturbation",
    "PerturbedPass",
    "Randomness",
    "Site",
    "WeightNoise",
    "find_modules",
    "inject",
]
