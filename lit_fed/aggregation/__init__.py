"""Aggregation rules: how the server makes the next broadcast of the clients' updates."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.aggregation.adaptive_optimizers import FedAdagrad, FedAdam, FedYogi
    from lit_fed.aggregation.aggregation import Aggregation
    from lit_fed.aggregation.local_only import LocalOnly
    from lit_fed.aggregation.lora.fedex_lora import FedExLoRA
    from lit_fed.aggregation.lora.fedsa_lora import FedSALoRA
    from lit_fed.aggregation.lora.ffa_lora import FFALoRA
    from lit_fed.aggregation.lora.flexlora import FlexLoRA
    from lit_fed.aggregation.lora.flora import FLoRA
    from lit_fed.aggregation.lora.rolora import RoLoRA
    from lit_fed.aggregation.robust.coordinate_median import CoordinateMedian
    from lit_fed.aggregation.robust.flame import FLAME
    from lit_fed.aggregation.robust.geometric_median import GeometricMedian
    from lit_fed.aggregation.robust.krum import Krum, MultiKrum
    from lit_fed.aggregation.robust.norm_clipping import NormClipping
    from lit_fed.aggregation.robust.trimmed_mean import TrimmedMean
    from lit_fed.aggregation.server_optimizer import ServerOptimizer
    from lit_fed.aggregation.server_optimizers import FedAvgM
    from lit_fed.aggregation.weighted_average import WeightedAverage
    from lit_fed.aggregation.weighting import Weighting, client_weights
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "FLAME",
    "Aggregation",
    "CoordinateMedian",
    "FFALoRA",
    "FLoRA",
    "FedAdagrad",
    "FedAdam",
    "FedAvgM",
    "FedExLoRA",
    "FedSALoRA",
    "FedYogi",
    "FlexLoRA",
    "GeometricMedian",
    "Krum",
    "LocalOnly",
    "MultiKrum",
    "NormClipping",
    "RoLoRA",
    "ServerOptimizer",
    "TrimmedMean",
    "WeightedAverage",
    "Weighting",
    "client_weights",
]
