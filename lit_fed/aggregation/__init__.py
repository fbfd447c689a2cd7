"""Aggregation rules: how the server makes the next broadcast of the clients' updates."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.aggregation.aggregation import Aggregation
    from lit_fed.aggregation.local_only import LocalOnly
    from lit_fed.aggregation.lora.fedsa_lora import FedSALoRA
    from lit_fed.aggregation.lora.ffa_lora import FFALoRA
    from lit_fed.aggregation.lora.flexlora import FlexLoRA
    from lit_fed.aggregation.lora.rolora import RoLoRA
    from lit_fed.aggregation.server_optimizers import FedAvgM
    from lit_fed.aggregation.weighted_average import WeightedAverage
    from lit_fed.aggregation.weighting import Weighting, client_weights
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "Aggregation",
    "FFALoRA",
    "FedAvgM",
    "FedSALoRA",
    "FlexLoRA",
    "LocalOnly",
    "RoLoRA",
    "WeightedAverage",
    "Weighting",
    "client_weights",
]
