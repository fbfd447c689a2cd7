"""Federated distillation and fine-tuning of language models as PyTorch Lightning modules."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.attachment import Attachment
    from lit_fed.client import Client
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
    from lit_fed.specification import Specification
    from lit_fed.stage import Stage
    from lit_fed.trainer import FederatedTrainer
    from lit_fed.update import Update
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "DDG",
    "DDGMSI",
    "MSI",
    "SCAFFOLD",
    "AdversarialDistillation",
    "Attachment",
    "Client",
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
    "Specification",
    "Stage",
    "Update",
]
