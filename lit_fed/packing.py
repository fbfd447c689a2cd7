"""Bytes for another process: a JSON header and blocks of bytes, never pickles, which could run code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import UnionType
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
    """Read what :func:`pack` wrote.

    Raises:
        ValueError: If it is something else, or a part of it alone.

    Example:
        >>> unpack(pack("header", [b"four"])[:-1])
        Traceback (most recent call last):
        ...
        ValueError: packed bytes are expected to end with 4 bytes in 1 blocks, but 3 bytes are left
    """
    start = LENGTH + int.from_bytes(data[:LENGTH], "little")
    if len(data) < LENGTH or len(data) < start:
        raise ValueError(
            f"packed bytes are expected to begin with a header of {start:,} bytes, but there are {len(data):,}"
        )
    try:
        read = json.loads(data[LENGTH:start])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the header of packed bytes is expected in JSON, but: {error}") from error
    if not isinstance(read, list) or len(read) != 2 or not _are_lengths(read[1]):
        raise ValueError(
            f"the header of packed bytes is expected to end with the blocks' lengths, but got {read!r:.80}"
        )
    header, lengths = read
    if sum(lengths) != len(data) - start:
        raise ValueError(
            f"packed bytes are expected to end with {sum(lengths)} bytes in {len(lengths)} blocks, but "
            f"{len(data) - start} bytes are left"
        )
    blobs = []
    for length in lengths:
        blobs.append(data[start : start + length])
        start += length
    return header, blobs


def fields(header: Any, what: str, kinds: dict[str, type | UnionType]) -> dict[str, Any]:
    """The fields of a header that has been read, each of its kind.

    Args:
        header: What was read.
        what: How an error calls it.
        kinds: The fields that it has, none more and none less, and of what type each is. An integer passes for
            a number, a truth value only for itself.

    Raises:
        ValueError: If it is no such object.

    Example:
        >>> fields({"rounds": "3"}, "a client", {"rounds": int})
        Traceback (most recent call last):
        ...
        ValueError: a client is expected to have `rounds` of type int, but got '3'
    """
    if not isinstance(header, dict) or header.keys() != kinds.keys():
        raise ValueError(f"{what} is expected to have {', '.join(kinds)}, but got {header!r:.120}")
    for name, kind in kinds.items():
        value = header[name]
        allowed = kind | int if kind is float else kind
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            called = kind.__name__ if isinstance(kind, type) else str(kind)
            raise ValueError(
                f"{what} is expected to have `{name}` of type {called}, but got {value!r:.80}"
            )
    return header


def _are_lengths(read: Any) -> bool:
    return isinstance(read, list) and all(type(one) is int and one >= 0 for one in read)
