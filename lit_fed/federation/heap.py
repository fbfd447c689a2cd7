"""Giving memory back to the system."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any


@cache
def _libc() -> Any:
    try:
        libc = ctypes.CDLL("libc.so.6")
        return libc if hasattr(libc, "malloc_trim") else None
    except OSError:  # not Linux, or another C library, whose heaps are not known to keep their gaps
        return None


class HeapTrimmer:
    """Makes glibc give the gaps of its heap back to the system, whenever so much more has been kept.

    Clients come one after the other: each one's gradients and moments are taken from the heap and given
    back, in between lies what is kept of it. glibc would hold on to the gaps, which cost a federation of
    many clients a third as much memory again.

    Args:
        every: Bytes to be kept between two times.
    """

    def __init__(self, every: int = 32 * 2**20) -> None:
        self._every = every
        self._kept = 0

    def keep(self, size: int) -> None:
        """Count bytes that are kept.

        Args:
            size: Bytes.
        """
        self._kept += size
        if self._kept >= self._every and _libc() is not None:
            self._kept = 0
            _libc().malloc_trim(0)
