"""The batches of a client's local training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING

from torch import Tensor

from lit_fed.client import Client
from lit_fed.federation.evaluation import limited
from lit_fed.federation.randomness import derive_seed

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.federation.trainer import FederatedTrainer


@dataclass(frozen=True)
class LocalBatch:
    """One batch of a client's training.

    Attributes:
        batch: The batch, still on the CPU.
        accumulated: Over how many batches the gradient of this optimizer step is averaged.
        ends_step: Whether the optimizer steps after this batch.
    """

    batch: dict[str, Tensor]
    accumulated: int
    ends_step: bool


def local_batches(
    trainer: FederatedTrainer, client: Client, rows: Dataset, stage: int
) -> Iterator[LocalBatch]:
    """The batches of one stage: ``local_epochs`` passes over ``rows``, or as many as ``local_steps`` needs.

    The order depends on (seed, round, client, stage, epoch) alone. An epoch's last step takes what is left
    when its batches are no multiple of ``accumulate_grad_batches``.

    Raises:
        ValueError: If there is no batch to train on.
    """
    tokenizer = trainer.lightning_module.tokenizer
    steps = 0
    for epoch in range(trainer.local_epochs) if trainer.local_steps is None else count():
        seed = derive_seed(trainer.seed, client.round, client.index, stage, epoch)
        loader = trainer.datamodule.dataloader(rows, tokenizer, seed=seed)
        batches = limited(len(loader), trainer.limit_train_batches)
        if batches == 0:
            raise ValueError(
                f"client {client.id!r} is expected to have a batch to train on, but its {len(loader)} batches under "
                f"`trainer.limit_train_batches` {trainer.limit_train_batches} are none"
            )
        group = trainer.accumulate_grad_batches
        for index, batch in enumerate(islice(loader, batches)):
            accumulated = min(group, batches - index // group * group)
            ends_step = index % group == accumulated - 1
            yield LocalBatch(batch, accumulated, ends_step)
            steps += ends_step
            if steps == trainer.local_steps:
                return
