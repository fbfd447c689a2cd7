"""The round: which clients, how they run, what the server keeps."""

from lit_fed.federation.execution import ClientExecution, SequentialClients, VectorizedClients
from lit_fed.federation.ledger import Ledger
from lit_fed.federation.sampling import (
    ClientSampler,
    FixedOrderSampler,
    SizeSampler,
    UniformSampler,
)
from lit_fed.federation.state import ClientState, FederationState
from lit_fed.federation.trainer import FederatedTrainer

__all__ = [
    "ClientExecution",
    "ClientSampler",
    "ClientState",
    "FederatedTrainer",
    "FederationState",
    "FixedOrderSampler",
    "Ledger",
    "SequentialClients",
    "SizeSampler",
    "UniformSampler",
    "VectorizedClients",
]
