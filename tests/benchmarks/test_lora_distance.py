"""What it costs the server to say how far a rule is from the clients' sum, for LoRA on a model of 1 billion weights.

``python -m pytest -m benchmark -s tests/benchmarks/test_lora_distance.py``, about a minute on one core. The shapes are
those of Llama 3.2 1B, of which ``LAYERS`` layers are measured: time is linear in their number, memory does not depend
on it. Of many clients sixteen payloads are told apart, so that what is measured is the computation alone.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator

import pytest
import torch

from lit_fed import Payload
from lit_fed.aggregation import FlexLoRA, WeightedAverage
from lit_fed.aggregation.lora.changes import Changes
from lit_fed.aggregation.lora.distance import LoRADistance
from lit_fed.aggregation.lora.factors import FactorNames, LoRALayout
from lit_fed.update import Update

WIDTH, NARROW, INNER, RANK = 2048, 512, 8192, 16
OF_THE_MODEL = 16
LAYERS = 1
ATTENTION = {"q": (WIDTH, WIDTH), "v": (NARROW, WIDTH)}  # [out, in] of what peft adapts in a Llama
LINEAR = ATTENTION | {
    "k": (NARROW, WIDTH),
    "o": (WIDTH, WIDTH),
    "gate": (INNER, WIDTH),
    "up": (INNER, WIDTH),
    "down": (WIDTH, INNER),
}

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


def layout(shapes: dict[str, tuple[int, int]]) -> LoRALayout:
    names = [f"{i}.{name}" for i in range(LAYERS) for name in shapes]
    return LoRALayout({n: FactorNames(f"{n}.A", f"{n}.B", scale=2.0) for n in names})


def random(shapes: dict[str, tuple[int, int]]) -> Payload:
    tensors = {}
    for i in range(LAYERS):
        for name, (out, width) in shapes.items():
            tensors[f"{i}.{name}.A"] = torch.randn(RANK, width)
            tensors[f"{i}.{name}.B"] = torch.randn(out, RANK)
    return Payload(tensors)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def clients(shapes: dict[str, tuple[int, int]], count: int, others: int = 16) -> Iterator[Update]:
    sent = [random(shapes) for _ in range(min(count, others))]
    for number in range(count):
        yield Update(str(number), sent[number % len(sent)], num_samples=1)


@pytest.mark.parametrize(
    "shapes", [ATTENTION, LINEAR], ids=["queries and values", "all linear weights"]
)
def test_sixteen_clients(shapes: dict[str, tuple[int, int]]) -> None:
    updates = list(clients(shapes, 16))
    distance, rule = LoRADistance(Changes(layout(shapes))), WeightedAverage()
    weights = rule.weights(updates)
    begun = time.process_time()
    combined = rule(updates, updates[0].payload)
    averaged = time.process_time()
    told = distance.metrics(updates, weights, {}, combined)
    measured = time.process_time()
    whole = OF_THE_MODEL / LAYERS
    spent, more = (averaged - begun) * whole, (measured - averaged) * whole
    print(f"\n16 clients, rank {RANK}: the mean {spent:.2f} CPU seconds, its distance {more:.2f}")
    assert 0.5 < told["server/lora_distance"] < 1.5


def test_memory_does_not_grow_with_the_clients() -> None:
    """Among few clients the factors beside each other are nearly as large as the matrix that many are summed up in."""
    shapes = {"q": (WIDTH, WIDTH)}
    distance = LoRADistance(Changes(layout(shapes)))
    found, matrix = random(shapes), WIDTH * WIDTH * 8
    peaks = {}
    for count in (128, 256, 1000):
        updates = list(clients(shapes, count))
        begun = time.process_time()
        distance.metrics(updates, WeightedAverage().weights(updates), {}, found)
        peaks[count] = peak()
        print(
            f"\n{count} clients, one weight: {time.process_time() - begun:.2f} CPU seconds", end=""
        )
    growth = (peaks[1000] - peaks[256]) / matrix
    print(f"; 256 -> 1000 clients: {growth:.2f} matrices more memory")
    assert growth < 0.5


def test_the_decomposition_of_flexlora() -> None:
    updates = list(clients(ATTENTION, 16))
    rule = FlexLoRA()
    rule.layout = layout(ATTENTION)
    rule.clients._layouts = {"default": rule.layout}
    begun = time.process_time()
    rule(updates, updates[0].payload)
    seconds = (time.process_time() - begun) * OF_THE_MODEL / LAYERS
    print(f"\nFlexLoRA, 16 clients, queries and values: {seconds:.2f} CPU seconds")
