"""Federated methods: thirteen of them, and in folders the parts that they have.

A method knows its paper, never the round loop; methods do not inherit from one another.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods.averaging import AveragingMixin
    from lit_fed.methods.ddg import DDG
    from lit_fed.methods.ddg_msi import DDGMSI
    from lit_fed.methods.distillation import (
        AdversarialDistillation,
        Distillation,
        DPDistillation,
    )
    from lit_fed.methods.fedavg import FedAvg
    from lit_fed.methods.fedprox import FedProx
    from lit_fed.methods.fedsd import FedSD, FedSDR
    from lit_fed.methods.msi import MSI
    from lit_fed.methods.prototype_defense import PrototypeDefense
    from lit_fed.methods.scaffold import SCAFFOLD
    from lit_fed.methods.semantic_consensus import SemanticConsensus, SoftConsensus
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "DDG",
    "DDGMSI",
    "MSI",
    "SCAFFOLD",
    "AdversarialDistillation",
    "AveragingMixin",
    "DPDistillation",
    "Distillation",
    "FedAvg",
    "FedProx",
    "FedSD",
    "FedSDR",
    "PrototypeDefense",
    "SemanticConsensus",
    "SoftConsensus",
]
