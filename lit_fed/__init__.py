"""Federated distillation and fine-tuning of language models as PyTorch Lightning modules."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods import (
        DDG,
        DDGMSI,
        MSI,
        SCAFFOLD,
        AdversarialDistillation,
        Distillation,
        DPDistillation,
        FedAvg,
        FedProx,
        FedSD,
        FedSDR,
        PrototypeDefense,
        SemanticConsensus,
        SoftConsensus,
    )
    from lit_fed.module import FederatedModule
    from lit_fed.payload import Payload
    from lit_fed.trainer import FederatedTrainer
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "DDG",
    "DDGMSI",
    "MSI",
    "SCAFFOLD",
    "AdversarialDistillation",
    "DPDistillation",
    "Distillation",
    "FedAvg",
    "FedProx",
    "FedSD",
    "FedSDR",
    "FederatedModule",
    "FederatedTrainer",
    "Payload",
    "PrototypeDefense",
    "SemanticConsensus",
    "SoftConsensus",
]
