"""Federated methods, one a file, and the parts that several of them share."""

from lit_fed.methods.ddg import DDG
from lit_fed.methods.ddg_msi import DDGMSI
from lit_fed.methods.fedavg import FedAvg
from lit_fed.methods.msi import MSI

__all__ = ["DDG", "DDGMSI", "MSI", "FedAvg"]
