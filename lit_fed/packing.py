"""Bytes for another process: a JSON header and blocks of bytes, never pickles, which could run code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

LENGTH: Final = 8  # bytes of the number that says how long a header is


def pack(header: Any, blobs: Sequence[bytes] = ()) -> bytes:
    """One block of bytes out of a header, anything JSON can hold, and blocks of bytes.

    Example:
        >>> unpack(pack({"clients": [3]}, [b"ab", b""]))
        ({'clients': [3]}, [b'ab', b''])
    """
    text = json.dumps([header, [len(blob) for blob in blobs]]).encode()
    return b"".join([len(text).to_bytes(LENGTH, "little"), text, *blobs])


def unpack(data: bytes) -> tuple[Any, list[bytes]]:
    """Read what :func:`pack` wrote."""
    start = LENGTH + int.from_bytes(data[:LENGTH], "little")
    header, lengths = json.loads(data[LENGTH:start])
    blobs = []
    for length in lengths:
        blobs.append(data[start : start + length])
        start += length
    return header, blobs
