"""A random stream for each client, of which one at a time is the process's global one."""

from __future__ import annotations

import random
from types import ModuleType
from typing import Any, Final

import numpy as np
import torch

SERVER: Final = -1
"""Whose stream was the global one before the clients began."""


class RandomStreams:
    """Lets each of several clients draw from torch's, Python's and NumPy's global generators as if alone.

    Whoever comes draws from where it stopped; the state of the one before is put by. A client that has
    not come yet goes on from wherever the generators are, and is expected to seed them.

    Args:
        device: Where the model is; the CPU's generator is always included.

    Example:
        >>> streams = RandomStreams(torch.device("cpu"))
        >>> drawn = {0: [], 1: []}
        >>> for turn in range(2):
        ...     for client in (0, 1):
        ...         streams.enter(client)
        ...         if not turn:
        ...             _ = torch.manual_seed(7)
        ...         drawn[client].append(torch.rand(()).item())
        >>> streams.enter(SERVER)
        >>> drawn[0] == drawn[1]
        True
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._backend: ModuleType | None = (
            None if device.type == "cpu" else getattr(torch, device.type)
        )
        self._tensor_owner = self._host_owner = SERVER
        self._tensor_states: dict[int, tuple[torch.Tensor, torch.Tensor | None]] = {}
        self._host_states: dict[int, tuple[Any, Any]] = {}

    def enter(self, owner: int) -> None:
        """Let a client draw from all generators."""
        self.enter_torch(owner)
        if owner == self._host_owner:
            return
        self._host_states[self._host_owner] = random.getstate(), np.random.get_state()
        self._host_owner = owner
        if owner in self._host_states:
            python, numpy = self._host_states.pop(owner)
            random.setstate(python)
            np.random.set_state(numpy)

    def enter_torch(self, owner: int) -> None:
        """Let a client draw from torch's generators, which is all that a forward pass needs."""
        if owner == self._tensor_owner:
            return
        self._tensor_states[self._tensor_owner] = self._read()
        self._tensor_owner = owner
        if owner in self._tensor_states:
            cpu, accelerator = self._tensor_states.pop(owner)
            torch.set_rng_state(cpu)
            if self._backend is not None:
                self._backend.set_rng_state(accelerator, self._device)

    def snapshot(self) -> dict[int, tuple[torch.Tensor, torch.Tensor | None]]:
        """Where torch's generators are, of all streams."""
        return {**self._tensor_states, self._tensor_owner: self._read()}

    def restore(self, states: dict[int, tuple[torch.Tensor, torch.Tensor | None]]) -> None:
        """Go back to a :meth:`snapshot`."""
        owner, self._tensor_states = self._tensor_owner, dict(states)
        self._tensor_owner = SERVER - 1
        self.enter_torch(owner)
        self._tensor_states.pop(SERVER - 1)

    def _read(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        backend = self._backend
        return torch.get_rng_state(), backend.get_rng_state(self._device) if backend else None
