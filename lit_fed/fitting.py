"""How a model learns that no client trains: a teacher, a defender's, an attacker's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from lit_fed.backbones import Backbone
from lit_fed.losses import cross_entropy

if TYPE_CHECKING:
    from datasets import Dataset


def descend(
    optimizer: torch.optim.Optimizer,
    losses: Iterable[Tensor],
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    max_grad_norm: float | None = None,
) -> None:
    """One optimizer step for each loss.

    Args:
        optimizer: Of what learns.
        losses: Scalars, each computed when it is asked for, since the step before it changes it.
        schedule: Is advanced after each step. None: the learning rate stays.
        max_grad_norm: The largest norm of a step's gradient, which is scaled down to it. None: any.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor(1.0))
        >>> descend(torch.optim.SGD([weight], lr=0.25), (weight**2 for _ in range(2)))
        >>> weight.item()
        0.25
    """
    learns = [p for group in optimizer.param_groups for p in group["params"]]
    for loss in losses:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(learns, max_grad_norm)
        optimizer.step()
        if schedule is not None:
            schedule.step()
    optimizer.zero_grad(set_to_none=True)


def fit_classifier(
    backbone: Backbone,
    learns: Sequence[nn.Parameter],
    rows: Dataset,
    batches: Callable[[Dataset, int, int], Iterable[Mapping[str, Tensor]]],
    batch_size: int,
    epochs: int,
    lr: float,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    seed: int = 0,
) -> None:
    """Train a classifier by AdamW, whose learning rate falls linearly to 0; the global generators stay as they are.

    Args:
        backbone: The classifier, in whatever mode it is.
        learns: What of it trains.
        rows: What it learns, at least one.
        batches: Gives rows in the order of a seed, in batches of a size, on the classifier's device, as
            :meth:`~lit_fed.FederatedModule.batches` does.
        batch_size: Rows of a batch.
        epochs: Passes over the rows.
        lr: The first learning rate.
        weight_decay: Of AdamW.
        max_grad_norm: The largest norm of a step's gradient, which is scaled down to it.
        seed: Of dropout, and with the number of the epoch of the rows' order.
    """

    def losses() -> Iterator[Tensor]:
        for epoch in range(epochs):
            for batch in batches(rows, seed + epoch, batch_size):
                prediction = backbone(dict(batch))
                yield cross_entropy(prediction.logits, prediction.targets, prediction.mask)

    training = backbone.training
    with isolate_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        backbone.train()
        try:
            optimizer = torch.optim.AdamW(learns, lr, weight_decay=weight_decay)
            steps = epochs * -(-len(rows) // batch_size)
            falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
            descend(optimizer, losses(), falling, max_grad_norm)
        finally:
            backbone.train(training)
