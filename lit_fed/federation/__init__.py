"""The round: which clients, how they run, what the server keeps."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.federation.client.client_state import ClientState
    from lit_fed.federation.execution import (
        ClientExecution,
        DistributedClients,
        ProcessLost,
        SequentialClients,
        ShardedClients,
        VectorizedClients,
    )
    from lit_fed.federation.ledger import Ledger
    from lit_fed.federation.run.checkpoint import last_checkpoint
    from lit_fed.federation.sampling import (
        ClientSampler,
        FixedOrderSampler,
        SizeSampler,
        UniformSampler,
    )
    from lit_fed.federation.state import FederationState
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "ClientExecution",
    "ClientSampler",
    "ClientState",
    "DistributedClients",
    "FederationState",
    "FixedOrderSampler",
    "Ledger",
    "ProcessLost",
    "SequentialClients",
    "ShardedClients",
    "SizeSampler",
    "UniformSampler",
    "VectorizedClients",
    "last_checkpoint",
]
