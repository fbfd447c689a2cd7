"""Federated methods, one a file."""

from lit_fed.methods.fedavg import FedAvg

__all__ = ["FedAvg"]
