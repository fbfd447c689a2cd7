"""Federated distillation and fine-tuning of language models as PyTorch Lightning modules."""

from lit_fed.methods import DDG, DDGMSI, MSI, FedAvg
from lit_fed.module import FederatedModule
from lit_fed.payload import Payload
from lit_fed.trainer import FederatedTrainer

__all__ = ["DDG", "DDGMSI", "MSI", "FedAvg", "FederatedModule", "FederatedTrainer", "Payload"]
