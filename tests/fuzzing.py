"""Byte strings for fuzzing: what is in a file, damaged in the ways in which files and forgers damage it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

# Headers of ours are JSON behind eight bytes that say how long they are.
_LENGTH = 8
_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
JSON = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """One of ``originals`` after a few changes of bytes, or with another value in its header."""
    data = draw(st.sampled_from(originals))
    if draw(st.booleans()):
        return _with_forged_header(draw, data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "cut", "insert", "drop", "repeat"])):
            case "flip":
                flipped = data[place : place + 1] or b"\0"
                bit = 1 << draw(st.integers(0, 7))
                data = data[:place] + bytes([flipped[0] ^ bit]) + data[place + 1 :]
            case "cut":
                data = data[:place]
            case "insert":
                data = data[:place] + draw(st.binary(min_size=1, max_size=8)) + data[place:]
            case "drop":
                data = data[:place] + data[place + draw(st.integers(1, 8)) :]
            case _:
                data = data[:place] + data[place : place + draw(st.integers(1, 40))] + data[place:]
    return data


def _with_forged_header(draw: st.DrawFn, data: bytes) -> bytes:
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    header = json.loads(data[_LENGTH:end])
    text = json.dumps(_forged(draw, header)).encode()
    if draw(st.integers(0, 9)) == 0:
        text = b"[" * draw(st.sampled_from([10, 10_000])) + text
    length = draw(st.just(len(text)) | st.integers(0, 2**64 - 1))
    return length.to_bytes(_LENGTH, "little") + text + data[end:]


def _forged(draw: st.DrawFn, value: Any) -> Any:
    """The value with something else at one place; texts that are JSON themselves are opened."""
    if isinstance(value, str) and value[:1] in ("{", "[") and draw(st.booleans()):
        return json.dumps(_forged(draw, json.loads(value)))
    if not value or not isinstance(value, dict | list) or draw(st.integers(0, 3)) == 0:
        return draw(JSON)
    if isinstance(value, dict):
        name = draw(st.sampled_from(list(value)))
        rest = {key: one for key, one in value.items() if key != name}
        if draw(st.integers(0, 4)) == 0:
            return rest
        return {**rest, name: _forged(draw, value[name])}
    place = draw(st.integers(0, len(value) - 1))
    return [*value[:place], _forged(draw, value[place]), *value[place + 1 :]]
