"""Passes that share their dropout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor


class Randomness:
    """The state of torch's global generators at one moment, to be drawn from again.

    Take it before the clean pass and replay it around the perturbed one: both then drop the same
    units, and without a perturbation they agree bit for bit.

    Args:
        device: Where the model is; the CPU's generator is always included.

    Example:
        >>> before = Randomness("cpu")
        >>> first = torch.rand(2)
        >>> with before.replayed():
        ...     again = torch.rand(2)
        >>> torch.equal(first, again)
        True
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._states = self._read()

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """Draw from this moment on within the context; afterwards go on as if nothing had been drawn."""
        later = self._read()
        self._write(self._states)
        try:
            yield
        finally:
            self._write(later)

    @property
    def _backend(self) -> ModuleType | None:
        return None if self._device.type == "cpu" else getattr(torch, self._device.type)

    def _read(self) -> tuple[Tensor, Tensor | None]:
        backend = self._backend
        return torch.get_rng_state(), backend.get_rng_state(self._device) if backend else None

    def _write(self, states: tuple[Tensor, Tensor | None]) -> None:
        torch.set_rng_state(states[0])
        backend = self._backend
        if backend:
            backend.set_rng_state(states[1], self._device)
