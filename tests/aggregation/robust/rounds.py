"""Rounds of random updates, and what they are as dense vectors, with no code of the library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lit_fed import Payload
from lit_fed.aggregation.lora.factors import FactorNames, LoRALayout
from lit_fed.aggregation.robust import Products
from lit_fed.update import Update

SHAPES = {"x": (5, 7), "y": (3, 4)}  # of two weights that LoRA changes, [out, in]
SCALES = {"x": 2.0, "y": 0.5}
RANK = 2
HEAD = (4,)


@dataclass
class Round:
    """Updates of a round and the broadcast before; all in float64."""

    updates: list[Update]
    previous: Payload


def payload(values: dict[str, np.ndarray]) -> Payload:
    return Payload({name: torch.tensor(value) for name, value in values.items()})


def factors(generator: np.random.Generator, size: float = 1.0) -> dict[str, np.ndarray]:
    """A LoRA of two weights and a head."""
    values = {}
    for name, (out, width) in SHAPES.items():
        values[f"{name}.lora_A.weight"] = generator.normal(size=(RANK, width)) * size
        values[f"{name}.lora_B.weight"] = generator.normal(size=(out, RANK)) * size
    values["head"] = generator.normal(size=HEAD) * size
    return values


def random_round(clients: int, seed: int, spread: float = 0.3) -> Round:
    """Honest clients: a common change, and one of each client's own."""
    generator = np.random.default_rng(seed)
    before, common = factors(generator), factors(generator)
    updates = []
    for number in range(clients):
        own = factors(generator, spread)
        values = {name: before[name] + 0.3 * (common[name] + own[name]) for name in before}
        size = int(generator.integers(1, 50))
        updates.append(Update(f"c{number:02}", payload(values), num_samples=size))
    return Round(updates, payload(before))


def dense(sent: Payload, products: bool) -> np.ndarray:
    """All weights' s·B·A and the head as one vector, or the tensors as they are."""
    tensors = {name: value.numpy() for name, value in sent.tensors.items()}
    if not products:
        return np.concatenate([value.ravel() for value in tensors.values()])
    weights = [
        SCALES[name] * tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
        for name in SHAPES
    ]
    return np.concatenate([value.ravel() for value in (*weights, tensors["head"])])


def dense_changes(
    round_: Round, products: bool, updates: Sequence[Update] | None = None
) -> np.ndarray:
    """The clients' changes, [K, n]."""
    before = dense(round_.previous, products)
    return np.stack([dense(u.payload, products) - before for u in updates or round_.updates])


def truncated(vector: np.ndarray, products: bool) -> np.ndarray:
    """A vector of :func:`dense`, with each weight's matrix brought to the adapter's rank."""
    if not products:
        return vector
    parts, start = [], 0
    for shape in SHAPES.values():
        size = shape[0] * shape[1]
        u, s, vh = np.linalg.svd(vector[start : start + size].reshape(shape))
        parts.append((u[:, :RANK] * s[:RANK] @ vh[:RANK]).ravel())
        start += size
    return np.concatenate([*parts, vector[start:]])


def products() -> Products:
    """The geometry of those two weights, as a backbone would make it."""
    geometry = Products()
    geometry._layout = LoRALayout(
        {
            name: FactorNames(f"{name}.lora_A.weight", f"{name}.lora_B.weight", SCALES[name])
            for name in SHAPES
        }
    )
    return geometry
