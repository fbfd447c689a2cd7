"""Whatever bytes a file holds, a source reads it or raises a ValueError that names it."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lit_fed.data import CSVSource, JSONLSource, LinesSource, ParquetSource, Source, TSVSource

TABLE = {"text": ['a, "b"', "ü\n", ""], "label": [1, 2, 3], "more": [[0.5], [], [1.0, 2.0]]}


def _lines() -> bytes:
    rows = [dict(zip(TABLE, values, strict=True)) for values in zip(*TABLE.values(), strict=True)]
    return "\n".join(json.dumps(row) for row in rows).encode()


def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(TABLE), sink)
    return bytes(sink.getvalue().to_pybytes())


SEEDS: dict[str, tuple[Callable[[Path], Source], bytes]] = {
    "csv": (CSVSource, b'text,label\n"a, ""b""",1\r\n"\xc3\xbc\n",2\n,3\n'),
    "tsv": (TSVSource, b"text\tlabel\na\t1\n\xc3\xbc\t2\n"),
    "jsonl": (JSONLSource, _lines()),
    "json": (JSONLSource, b"[" + _lines().replace(b"\n", b",\n") + b"]"),
    "txt": (lambda path: LinesSource(path, r"(?P<label>\d) (?P<text>.*)"), b"1 a\n\n0 \xc3\xbc\n"),
    "parquet": (ParquetSource, _parquet()),
}
# What has to do with more than one byte at once.
PIECES = [
    b"null",
    b"NaN",
    b"1" * 5000,
    b"1" * 30,
    b"1e999",
    b"-0.0",
    b"[" * 100_000,
    b'{"a":' * 2000,
    b'"\\ud800"',
    b"{}",
    b"[]",
    b'""',
    b"\xef\xbb\xbf",
    b"\x00",
    b"\xff",
    b"\r",
    b'"',
    b"true",
]


def _read(source: Callable[[Path], Source], path: Path, content: bytes) -> None:
    """Read, and tell the place of a row of what can be read."""
    path.write_bytes(content)
    table = source(path)
    refused: ValueError | None = None
    try:
        rows = table.load()
    except ValueError as error:
        refused = error
    if refused is not None:
        assert type(refused) is ValueError, repr(refused)
        assert path.name in str(refused)
        return
    assert isinstance(rows, Dataset)
    assert all(len(rows[name][:]) == len(rows) for name in rows.column_names)
    if len(rows):
        place = table.place(len(rows) - 1)
        assert place is None or path.name in place


@st.composite
def _damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with a few bytes changed, cut out or put in."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + draw(st.sampled_from([0, 1, 9])))))
        new = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=3)))
        content = content[:start] + new + content[end:]
    return content


@pytest.mark.slow
@pytest.mark.parametrize("kind", SEEDS)
@settings(
    max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_files(kind: str, tmp_path: Path, data: st.DataObject) -> None:
    source, content = SEEDS[kind]
    _read(source, tmp_path / f"rows.{kind}", data.draw(_damaged(content)))


@pytest.mark.parametrize("kind", SEEDS)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=60))
@example(content=b"")
@example(content=b"{}\n{}")
@example(content=b'{"a": ' + b"1" * 5000 + b"}")
@example(content=b'{"a": "\\ud800"}')
@example(content=b'{"\\ud800": 1}')
@example(content=b'{"a": 123456789012345678901234567890}')
@example(content=b'{"a": [123456789012345678901234567890]}')
@example(content=b'{"a": {}}')
@example(content=b'{"": {"": []}}')
@example(content=b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}")
@example(content=b'{"a": ' + b"[" * 100_000)
@example(content=b'{"a": 1}\n{"a": true}')
@example(content=b'{"a": [1]}\n{"a": {"b": 1}}')
@example(content=b"[1, 2]")
def test_any_bytes(kind: str, tmp_path: Path, content: bytes) -> None:
    source, _ = SEEDS[kind]
    _read(source, tmp_path / f"rows.{kind}", content)


@pytest.mark.parametrize("kind", SEEDS)
def test_some_damaged_files(kind: str, tmp_path: Path) -> None:
    source, content = SEEDS[kind]
    rng = random.Random(kind)
    for _ in range(60):
        start = rng.randrange(len(content))
        end = start + rng.choice([0, 1, 9])
        damaged = content[:start] + rng.choice(PIECES) + content[end:]
        _read(source, tmp_path / f"rows.{kind}", damaged)
