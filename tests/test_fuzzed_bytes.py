"""Bytes that were damaged or forged: read whole, or refused by a ValueError, and never answered by an allocation."""

from __future__ import annotations

import itertools
import json
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings

from lit_fed import Payload
from lit_fed.client import Client
from lit_fed.federation import ClientState
from lit_fed.federation.client.results import (
    ClientRound,
    Failed,
    Finished,
    pack_results,
    unpack_results,
)
from lit_fed.packing import unpack
from lit_fed.update import Update
from tests.fuzzing import mutated

pytestmark = pytest.mark.slow

CAMPAIGN = settings(
    max_examples=4000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

CLIENTS = [Client(name, index, 3, 1, 0, 0, {"train": 2}, None) for index, name in enumerate("abc")]
PLAIN = Payload({"w": torch.ones(2, 3), "n": torch.tensor(7), "yes": torch.tensor([True, False])})
WHOLE = Payload(
    {"w": torch.arange(4.0).half()},
    {"said": ["é", ""]},
    {"p": Payload({"q": torch.ones(2)}, {"t": ["x"]})},
)
STATE = ClientState(7, 2, WHOLE, PLAIN, {"train": 7}, Payload(), Payload(parts={"0": PLAIN}))
FINISHED = Finished(Update("a", WHOLE, 3, 2, {"train/loss": 0.5}), STATE)
STARTS = [ClientRound(CLIENTS[0], WHOLE, STATE), ClientRound(CLIENTS[1], Payload(), ClientState())]


@pytest.fixture(autouse=True, scope="module")
def _no_gigabytes() -> Iterator[None]:
    """No more than two gigabytes of address space beyond what the process has already."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**31, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def read_or_refused(read: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return read(data)
    except ValueError:
        return None


def texts_of(named: dict[str, Any], found: dict[str, torch.Tensor]) -> dict[str, list[str]]:
    """The texts that a header has itself, or says to be in tensors, which are taken out."""
    texts = {}
    for name, held in named.items():
        if isinstance(held, list):
            texts[name] = held
            continue
        whole = bytes(found.pop(f"::{held}").tolist())
        sizes = found.pop(f"::{held}::lengths").tolist()
        ends = itertools.accumulate(sizes)
        texts[name] = [
            whole[end - size : end].decode() for size, end in zip(sizes, ends, strict=True)
        ]
    return texts


def assert_nothing_lost(payload: Payload, data: bytes) -> None:
    """What another reader finds in the bytes is in the payload, and nothing else is."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    texts = header.get("__metadata__") or {}
    found = safetensors.torch.load(data)
    inside = json.loads(texts.get("parts", "{}"))
    strings = inside.pop("", json.loads(texts.get("strings", "{}")))
    assert {n: list(s) for n, s in payload.strings.items()} == texts_of(strings, found)
    held = dict(payload.tensors)
    for name, part in payload.parts.items():
        held |= {f"{name}::{key}": tensor for key, tensor in part.tensors.items()}
        assert {n: list(s) for n, s in part.strings.items()} == texts_of(inside[name], found)
    assert inside.keys() == payload.parts.keys()
    assert found.keys() == held.keys()
    assert all(t.dtype == held[n].dtype and torch.equal(t, held[n]) for n, t in found.items())


def header_of(data: bytes) -> str:
    """As text, in which NaN equals NaN, and in an order that means nothing."""
    return json.dumps(unpack(data)[0], sort_keys=True)


@CAMPAIGN
@given(mutated([PLAIN.to_bytes(), WHOLE.to_bytes(), Payload().to_bytes()]))
def test_a_damaged_payload_is_read_whole_or_refused(data: bytes) -> None:
    payload = read_or_refused(Payload.from_bytes, data)
    if payload is not None:
        assert_nothing_lost(payload, data)
        assert Payload.from_bytes(payload.to_bytes()) == payload


@CAMPAIGN
@given(mutated([start.to_bytes() for start in STARTS]))
def test_a_damaged_round_is_read_whole_or_refused(data: bytes) -> None:
    start = read_or_refused(ClientRound.from_bytes, data)
    if start is not None:
        assert header_of(start.to_bytes()) == header_of(data)
        assert_nothing_lost(start.broadcast, unpack(data)[1][0])


@CAMPAIGN
@given(mutated([FINISHED.to_bytes()]))
def test_a_damaged_result_is_read_whole_or_refused(data: bytes) -> None:
    finished = read_or_refused(Finished.from_bytes, data)
    if finished is not None:
        assert header_of(finished.to_bytes()) == header_of(data)
        assert_nothing_lost(finished.update.payload, unpack(data)[1][0])


@CAMPAIGN
@given(mutated([pack_results({0: FINISHED, 2: Failed(CLIENTS[2], ValueError("no rows"))})]))
def test_damaged_results_are_of_the_rounds_clients_or_refused(data: bytes) -> None:
    results = read_or_refused(lambda given: unpack_results(given, CLIENTS), data)
    if results is not None:
        assert results.keys() <= {0, 1, 2}
