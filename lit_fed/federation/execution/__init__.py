"""How the sampled clients of a round are run."""

from lit_fed.federation.execution.execution import ClientExecution, Failed, Finished
from lit_fed.federation.execution.sequential import SequentialClients
from lit_fed.federation.execution.vectorized import VectorizedClients

__all__ = ["ClientExecution", "Failed", "Finished", "SequentialClients", "VectorizedClients"]
