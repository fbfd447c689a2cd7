"""How the sampled clients of a round are run."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.federation.execution.collectives import ProcessLost
    from lit_fed.federation.execution.distributed import DistributedClients
    from lit_fed.federation.execution.execution import ClientExecution
    from lit_fed.federation.execution.sequential import SequentialClients
    from lit_fed.federation.execution.sharded import ShardedClients
    from lit_fed.federation.execution.vectorized.vectorized_clients import VectorizedClients
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "ClientExecution",
    "DistributedClients",
    "ProcessLost",
    "SequentialClients",
    "ShardedClients",
    "VectorizedClients",
]
