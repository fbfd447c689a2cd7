import json
from typing import Any

import pytest

from lit_fed.packing import LENGTH, pack, unpack


def with_header(header: Any, rest: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(LENGTH, "little") + text + rest


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "begin with a header of 8 bytes, but there are 0"),
        (b"\xff" * 12, "begin with a header of 18,446,744,073,709,551,623 bytes, but there are 12"),
        (with_header(b"{"), "expected in JSON"),
        (with_header(b"[" * 100_000), "expected in JSON"),
        (with_header({"a": 1}), "end with the blocks' lengths"),
        (with_header([1, [True]], b"x"), "end with the blocks' lengths"),
        (with_header([1, [-1, 2]], b"x"), "end with the blocks' lengths"),
        (with_header([1, [2**62]], b"x"), "but 1 bytes are left"),
        (with_header([1, [1]], b"xy"), "but 2 bytes are left"),
    ],
)
def test_bytes_of_something_else_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        unpack(data)


def test_what_was_packed_comes_back() -> None:
    assert unpack(pack({"a": ["é", None]}, [b"", b"xyz"])) == ({"a": ["é", None]}, [b"", b"xyz"])
