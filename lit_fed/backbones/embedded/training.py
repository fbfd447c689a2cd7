"""The training loop of the embedded backbones."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lit_fed.backbones.embedded.corpus import TokenPair
from lit_fed.backbones.embedded.recipe import Recipe

_WARM_UP = 0.1
# Batches among which pairs are sorted by length, to save padding.
_BUCKET = 8
# One, so that sums are made in the same order on any number of cores, and because a second thread makes
# training many times slower, not faster, where others use the cores as well.
_THREADS = 1


def pretrain(
    parameters: list[nn.Parameter],
    pairs: list[TokenPair],
    loss: Callable[[list[TokenPair], random.Random], Tensor],
    recipe: Recipe,
) -> None:
    """Minimise ``loss`` over batches of ``pairs`` with AdamW."""
    rng = random.Random(recipe.seed)
    warm_up = max(1, round(_WARM_UP * recipe.steps))
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    batches = _batches(pairs, recipe.batch_size, rng)
    for step in range(recipe.steps):
        pace = min((step + 1) / warm_up, (recipe.steps - step) / max(1, recipe.steps - warm_up))
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * pace
        optimizer.zero_grad()
        loss(next(batches), rng).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


def _batches(
    pairs: list[TokenPair], batch_size: int, rng: random.Random
) -> Iterator[list[TokenPair]]:
    """Endless batches of pairs of similar length, each pair once in a pass."""
    while True:
        shuffled = rng.sample(pairs, len(pairs))
        size = _BUCKET * batch_size
        for start in range(0, len(shuffled), size):
            bucket = sorted(
                shuffled[start : start + size], key=lambda pair: len(pair[0]) + len(pair[1])
            )
            batches = [bucket[i : i + batch_size] for i in range(0, len(bucket), batch_size)]
            for batch in rng.sample(batches, len(batches)):
                yield rng.sample(batch, len(batch))


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """A place to train in that neither depends on the caller's torch settings nor changes them.

    Random state, threads, default type and device, autocast and gradient mode are fixed inside and as
    before afterwards.
    """
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    try:
        torch.set_num_threads(_THREADS)
        torch.set_default_dtype(torch.float32)
        with (
            torch.random.fork_rng(devices=[]),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.device("cpu"),
            torch.autocast("cpu", enabled=False),
        ):
            torch.random.default_generator.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


def padded(sequences: list[list[int]], value: int) -> Tensor:
    """Sequences of different lengths as one tensor [B, L], filled up with ``value``."""
    length = max(map(len, sequences))
    return torch.tensor(
        [[*sequence, *[value] * (length - len(sequence))] for sequence in sequences]
    )
