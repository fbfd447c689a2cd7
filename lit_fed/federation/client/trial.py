"""A few training steps of which nothing is left, to measure what is faster before a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from lit_fed.federation.client.local_batches import local_batches
from lit_fed.federation.client.local_training import LocalTraining, step_outputs
from lit_fed.federation.client.results import ClientRound
from lit_fed.federation.randomness import reseed
from lit_fed.metric_averager import MetricAverager


@contextmanager
def trial(
    training: LocalTraining, start: ClientRound, batches: int
) -> Iterator[Callable[[], None]]:
    """Make ready to take training steps of a client, without an optimizer's step and without a hook.

    Whoever trains next is reset and seeded, as ever, so that no result depends on it.

    Args:
        training: Runs a client's round.
        start: What the client starts from.
        batches: How many of its batches, at most.

    Yields:
        A function that takes the steps.
    """
    module, device, client = training.module, training.fabric.device, start.client
    reseed(training.settings.seed, 0, client.index)
    training.resident.act_as_client(client, start.before, start.broadcast)
    module.train()
    module.metric_averager = MetricAverager()
    taken: list[dict[str, Tensor]] = []
    for stage in module.stages[:1]:
        module.start_stage(stage.name)
        rows = training.stage_rows(training.trained_rows(client, client.task), stage.name)
        every = local_batches(
            training.data, module.tokenizer, training.settings, client, rows, 0, stage
        )
        taken += [local.batch for local in islice(every, batches)]

    def steps() -> None:
        for index, batch in enumerate(taken):
            loss = step_outputs(training.loss(move_data_to_device(batch, device), index))["loss"]
            if loss is not None:
                training.backward([loss])

    try:
        yield steps
    finally:
        module.zero_grad(set_to_none=True)
        training.leave()


def seconds(work: Callable[[], None], device: torch.device) -> float:
    """How long something takes, until the device has done it."""
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
