"""What executions of many processes have in common: how the processes come to agree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import torch.distributed as dist

from lit_fed.federation.execution.collectives import Collectives
from lit_fed.federation.execution.execution import ClientExecution
from lit_fed.federation.execution.process_group import START_SETTING
from lit_fed.federation.state import FederationState
from lit_fed.limits import require_positive
from lit_fed.packing import pack, unpack
from lit_fed.payload import Payload

SETTING: Final = "trainer.execution.timeout"


class MultiProcessExecution(ClientExecution):
    """An execution whose processes go through the same rounds and hold the same state.

    All aggregate and evaluate alike, and then take over the first process's numbers: kernels of a GPU
    need not be exact to the last bit, and processes that drift apart would train different models.

    Args:
        timeout: Seconds that a process waits for the slowest of the others.
        start_timeout: Seconds that it waits for all to start.

    Raises:
        ValueError: If ``timeout`` or ``start_timeout`` is not above 0.
    """

    def __init__(self, timeout: float, start_timeout: float) -> None:
        self.timeout = require_positive(SETTING, timeout)
        self.start_timeout = require_positive(START_SETTING, start_timeout)
        self._collectives: Collectives | None = None

    @property
    def collectives(self) -> Collectives:
        """Collectives between the processes, all of which have to ask for it at the same time at first."""
        if self._collectives is None:
            self._collectives = Collectives(self.timeout, SETTING)
        return self._collectives

    def check_processes(self, processes: int) -> None:
        """Any number of them will do."""

    def of_first_process(self, value: Any) -> Any:
        """See :class:`ClientExecution`."""
        if is_alone():
            return value
        received, _ = unpack(self.collectives.of_first(pack(value)))
        return received

    def settle(self, state: FederationState) -> FederationState:
        """The first process's broadcast, server state and last metrics; see :class:`ClientExecution`."""
        if is_alone():
            return state
        first = self.collectives.rank == 0
        blobs = [state.broadcast.to_bytes(), state.server.to_bytes()] if first else []
        last, blobs = unpack(self.collectives.of_first(pack(state.history[-1:], blobs)))
        if first:
            return state
        broadcast, server = (Payload.from_bytes(blob) for blob in blobs)
        history = [*state.history[:-1], *last]
        return replace(state, broadcast=broadcast, server=server, history=history)


def is_alone() -> bool:
    """Whether this process is the only one of the run."""
    return not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1
