"""The batches of a client's local training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING

from torch import Tensor

from lit_fed.client import Client
from lit_fed.data import FederatedDataModule
from lit_fed.federation.client.local_settings import LocalSettings
from lit_fed.federation.randomness import derive_seed
from lit_fed.stage import Stage

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def limited(batches: int, limit: int | float) -> int:
    """How many of an epoch's batches a ``limit_*_batches`` setting leaves.

    As in Lightning, but that a fraction leaves at least one batch, where Lightning ends with an error: sites differ in
    size, and a fraction that is meant for the larger ones is to leave a small one something to train on.

    Args:
        batches: Batches there are.
        limit: An integer is a count, a float a fraction; 0 leaves none.

    Example:
        >>> limited(10, 3), limited(10, 0.25), limited(10, 1.0)
        (3, 2, 10)
        >>> limited(4, 0.1), limited(4, 0.0), limited(0, 0.5)
        (1, 0, 0)
    """
    if isinstance(limit, int):
        return min(batches, limit)
    least = 1 if limit > 0 else 0
    return min(batches, max(least, int(batches * limit)))


@dataclass(frozen=True)
class LocalBatch:
    """One batch of a client's training.

    Attributes:
        batch: The batch, still on the CPU.
        epoch: The pass over the rows, counted from 0.
        index: The batch's position in it.
        place: How many batches this optimizer step has taken before.
        accumulated: How many it takes in all.
        ends_epoch: Whether it is the last one of the pass.
    """

    batch: dict[str, Tensor]
    epoch: int
    index: int
    place: int
    accumulated: int
    ends_epoch: bool

    @property
    def begins_step(self) -> bool:
        """Whether it is the first batch of an optimizer step."""
        return self.place == 0

    @property
    def ends_step(self) -> bool:
        """Whether the optimizer steps after this batch."""
        return self.place == self.accumulated - 1


def steps_and_epochs(stage: Stage, settings: LocalSettings) -> tuple[int | None, int | None]:
    """The optimizer steps, or else the epochs, of a stage: its own or those of the settings.

    Example:
        >>> settings = LocalSettings(local_steps=4)
        >>> steps_and_epochs(Stage("train"), settings)
        (4, None)
        >>> steps_and_epochs(Stage("train", local_epochs=2), settings)
        (None, 2)
    """
    if stage.local_steps is not None:
        return stage.local_steps, None
    if stage.local_epochs is not None:
        return None, stage.local_epochs
    if settings.local_steps is not None:
        return settings.local_steps, None
    return None, settings.local_epochs


def local_batches(
    data: FederatedDataModule,
    tokenizer: PreTrainedTokenizerBase,
    settings: LocalSettings,
    client: Client,
    rows: Dataset,
    number: int,
    stage: Stage,
) -> Iterator[LocalBatch]:
    """The batches of one stage: some passes over ``rows``, or as many as a number of steps needs.

    The order depends on (seed, round, client, stage, epoch) alone. An epoch's last step takes what is left
    when its batches are no multiple of ``accumulate_grad_batches``.

    Args:
        data: Makes batches of rows.
        tokenizer: The tokenizer of the client's model.
        settings: How much is trained.
        client: The client.
        rows: The rows of this stage.
        number: The stage's position among the method's.
        stage: The stage.

    Raises:
        ValueError: If there is no batch to train on.
    """
    steps, epochs = steps_and_epochs(stage, settings)
    taken = 0
    for epoch in count() if epochs is None else range(epochs):
        seed = derive_seed(settings.seed, client.round, client.index, number, epoch)
        loader = data.dataloader(rows, tokenizer, seed=seed, packing=True)
        batches = limited(len(loader), settings.limit_train_batches)
        if batches == 0:
            raise ValueError(
                f"client {client.id!r} is expected to have a batch to train on, but its {len(loader)} batches under "
                f"`trainer.limit_train_batches` {settings.limit_train_batches} are none"
            )
        group = settings.accumulate_grad_batches
        for index, batch in enumerate(islice(loader, batches)):
            place = index % group
            accumulated = min(group, batches - (index - place))
            local = LocalBatch(batch, epoch, index, place, accumulated, index == batches - 1)
            yield local
            taken += local.ends_step
            if taken == steps:
                return
