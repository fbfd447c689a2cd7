"""The training loop of the embedded models."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

_WARM_UP = 0.05
# Batches among which examples are sorted by length, to save padding.
_BUCKET = 8

Example = TypeVar("Example")


def pretrain(
    parameters: list[nn.Parameter],
    batches: Iterator[list[Example]],
    loss: Callable[[list[Example], random.Random], Tensor],
    steps: int,
    learning_rate: float,
    seed: int,
    report: Callable[[int], None],
    every: int = 200,
) -> None:
    """Minimise ``loss`` with AdamW, whose learning rate rises and falls linearly; ``report`` is called now and then."""
    rng = random.Random(seed)
    warm_up = max(1, round(_WARM_UP * steps))
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    start, running = time.perf_counter(), 0.0
    for step in range(steps):
        pace = min((step + 1) / warm_up, (steps - step) / max(1, steps - warm_up))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * pace
        optimizer.zero_grad()
        value = loss(next(batches), rng)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        running += value.item()
        if (step + 1) % every == 0:
            seconds = time.perf_counter() - start
            print(
                f"step {step + 1}/{steps}  loss {running / every:.4f}  {seconds:.0f} s", flush=True
            )
            running = 0.0
            report(step + 1)


def batches_by_length(
    examples: Sequence[Example],
    length: Callable[[Example], int],
    batch_size: int,
    rng: random.Random,
) -> Iterator[list[Example]]:
    """Endless batches of examples of similar length, each example once in a pass."""
    while True:
        shuffled = rng.sample(examples, len(examples))
        size = _BUCKET * batch_size
        for start in range(0, len(shuffled), size):
            bucket = sorted(shuffled[start : start + size], key=length)
            batches = [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
            for batch in rng.sample(batches, len(batches)):
                yield rng.sample(batch, len(batch))


def padded(sequences: list[list[int]], value: int) -> Tensor:
    """Sequences of different lengths as one tensor [B, L], filled up with ``value``."""
    length = max(map(len, sequences))
    return torch.tensor(
        [[*sequence, *[value] * (length - len(sequence))] for sequence in sequences]
    )
