"""Where the time of a round goes."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.profiler import record_function


class Timers:
    """Seconds by phase, each second counted once: within another phase, for the inner one alone.

    The clock is the host's. On an accelerator, which works on while the host goes ahead, a phase is what
    it takes to hand its work over; nothing is synchronised for it. The same names are ranges of
    ``torch.profiler``, which knows the device's side.

    Example:
        >>> timers = Timers()
        >>> with timers("forward"):
        ...     with timers("teacher"):
        ...         time.sleep(0.02)
        >>> seconds = timers.take()
        >>> list(seconds), seconds["teacher"] > 0.015 > seconds["forward"], timers.take()
        (['forward', 'teacher'], True, {})
    """

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._open = threading.local()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the block's time for a phase.

        Args:
            name: The phase, such as ``forward``.
        """
        inner_before = getattr(self._open, "inner", 0.0)
        self._open.inner = 0.0
        self._seconds[name] += 0.0
        started = time.perf_counter()
        try:
            with record_function(f"lit_fed/{name}"):
                yield
        finally:
            elapsed = time.perf_counter() - started
            self._seconds[name] += elapsed - self._open.inner
            self._open.inner = inner_before + elapsed

    @contextmanager
    def excluded(self) -> Iterator[None]:
        """Count the block's time for no phase of this thread, as where it waits for another one's work."""
        inner_before = getattr(self._open, "inner", 0.0)
        started = time.perf_counter()
        try:
            yield
        finally:
            self._open.inner = inner_before + time.perf_counter() - started

    def __deepcopy__(self, memo: Any) -> Timers:
        """Copies of what counts count together."""
        return self

    def take(self) -> dict[str, float]:
        """Seconds by phase since the last call, in the order in which the phases first began."""
        taken = dict(self._seconds)
        self._seconds.clear()
        return taken
