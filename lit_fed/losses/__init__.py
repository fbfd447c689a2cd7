"""Loss terms: each a pure function, and the mixin that gives it to a method."""

from lit_fed.losses.aggregate_kl import (
    AggregateKLMixin,
    RunningMean,
    aggregate_kl,
    guidance_strength,
    semantic_deviation,
)
from lit_fed.losses.alignment import AlignmentMixin, alignment
from lit_fed.losses.counted_means import CountedMean, counted_means
from lit_fed.losses.cross_entropy import cross_entropy
from lit_fed.losses.kl_distill import KLDistillMixin, kl_distill, kl_distill_from_probs
from lit_fed.losses.kl_divergence import kl_divergence
from lit_fed.losses.masked_mean import (
    are_public,
    masked_mean,
    over_public_rows,
    own_mean,
    parts_of_a_batch,
    sums_over_rows,
)
from lit_fed.losses.mean_pool import mean_pool
from lit_fed.losses.mixture import mixture, mixture_top_k
from lit_fed.losses.predictions import Predicted, TemperatureMixin, soft_predictions
from lit_fed.losses.projector import fit_projector
from lit_fed.losses.prototype_margin import (
    PrototypeMarginMixin,
    prototype_cosines,
    prototype_margin,
)
from lit_fed.losses.proximal import ProximalMixin, proximal
from lit_fed.losses.pseudo_label import PseudoLabelMixin, pseudo_label
from lit_fed.losses.soft_cross_entropy import soft_cross_entropy
from lit_fed.losses.stability import StabilityMixin, stability
from lit_fed.losses.top_k import TopK, top_k
from lit_fed.losses.weight_regularization import (
    Perturbed,
    WeightRegularizationMixin,
    weight_regularization,
)

__all__ = [
    "AggregateKLMixin",
    "AlignmentMixin",
    "CountedMean",
    "KLDistillMixin",
    "Perturbed",
    "Predicted",
    "PrototypeMarginMixin",
    "ProximalMixin",
    "PseudoLabelMixin",
    "RunningMean",
    "StabilityMixin",
    "TemperatureMixin",
    "TopK",
    "WeightRegularizationMixin",
    "aggregate_kl",
    "alignment",
    "are_public",
    "counted_means",
    "cross_entropy",
    "fit_projector",
    "guidance_strength",
    "kl_distill",
    "kl_distill_from_probs",
    "kl_divergence",
    "masked_mean",
    "mean_pool",
    "mixture",
    "mixture_top_k",
    "over_public_rows",
    "own_mean",
    "parts_of_a_batch",
    "prototype_cosines",
    "prototype_margin",
    "proximal",
    "pseudo_label",
    "semantic_deviation",
    "soft_cross_entropy",
    "soft_predictions",
    "stability",
    "sums_over_rows",
    "top_k",
    "weight_regularization",
]
