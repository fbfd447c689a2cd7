"""A frozen teacher that has learnt the task on the public set before the federation begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from lit_fed.backbones import Backbone
from lit_fed.backbones.master_weights import require_wide
from lit_fed.configuration_error import ConfigurationError
from lit_fed.fitting import descend
from lit_fed.limits import require_at_least, require_non_negative, require_positive
from lit_fed.losses import cross_entropy
from lit_fed.methods.teachers.frozen_teacher import FrozenTeacher

if TYPE_CHECKING:
    from datasets import Dataset
    from torch.utils.data import DataLoader

    from lit_fed.module import FederatedModule


class FineTunedTeacher(FrozenTeacher):
    """A teacher that the server trains on the public set before the first round, and that is frozen from then on.

    For a federation with a teacher where none is at hand: of a model that knows the language it makes one that knows
    the task. What of it trains is what its backbone lets train: an adapter and the head, or all weights with
    ``peft: null``. It learns by AdamW in every fit anew, from what the model was when it was built, by the seed: a run
    that goes on has the same teacher, and so has every process. It sees no row of a client.

    Args:
        backbone: The teacher's model; see :class:`~lit_fed.methods.teachers.FrozenTeacher`. Where its configuration
            has no names of labels, as with a new head, it takes the student's.
        projector: Takes its pooled states to the student's size. None: states stay as they are.
        labels: Names of its labels in the order of the student's. None: those of the models' configurations.
        epochs: Passes over the public set, at least 1.
        batch_size: Rows of a step, at least 1.
        lr: The learning rate, above 0, which falls to 0 along a line.
        weight_decay: At least 0.
        seed: Of the rows' order and of dropout.
        cache_mb: Megabytes for the predictions of this round, once for a client's own rows and once for public ones.

    Raises:
        ValueError: If a number is out of range, or nothing of the backbone trains.
    """

    def __init__(
        self,
        backbone: Backbone,
        projector: nn.Module | None = None,
        labels: Sequence[str] | None = None,
        epochs: int = 3,
        batch_size: int = 16,
        lr: float = 1e-3,
        weight_decay: float = 0.01,
        seed: int = 0,
        cache_mb: float = 1024.0,
    ) -> None:
        learns = {name: p for name, p in backbone.trainable().items() if p.requires_grad}
        if not learns:
            raise ValueError(
                "`model.teacher.backbone` is expected to have something that trains, but has nothing"
            )
        super().__init__(backbone, projector, labels, cache_mb)
        self.epochs = require_at_least("model.teacher.epochs", epochs, 1)
        self.batch_size = require_at_least("model.teacher.batch_size", batch_size, 1)
        self.lr = require_positive("model.teacher.lr", lr)
        self.weight_decay = require_non_negative("model.teacher.weight_decay", weight_decay)
        self.seed = require_at_least("model.teacher.seed", seed, 0)
        built = {name: p.detach().clone() for name, p in learns.items()}
        # in a function, which stays the same where a module is copied for each of several clients
        self._built: Callable[[], dict[str, Tensor]] = lambda: built

    def attach(self, student: Backbone) -> None:
        """Take the student's names of labels, and compare; see :class:`~lit_fed.methods.teachers.FrozenTeacher`."""
        own = self.backbone
        if student.label_names and own.label_names is None and own.num_labels == student.num_labels:
            own.name_labels(student.label_names)
        super().attach(student)

    def check_split(self) -> None:
        """Refuse to be split over processes, of which each would have a part of what it is to learn.

        Raises:
            ValueError: Always, where a method uses it.
        """
        if self.attached:
            raise ValueError(
                "`model.teacher` is expected to be a FrozenTeacher where a model is split over processes, but got "
                f"{type(self).__name__}, which learns before the first round: save it and load it"
            )

    def setup(self, module: FederatedModule) -> None:
        """Learn the public set; see :meth:`Teacher.setup`.

        Raises:
            ConfigurationError: If there is no public set, or rows of it have no label.
        """
        data = module.data
        if data.public is None or data.public_unanswered:
            lacks = "null" if data.public is None else "rows without a label"
            raise ConfigurationError(
                f"`data.public` is expected to be a table with labels for `model.teacher` {type(self).__name__} to "
                f"learn from, but got {lacks}; `data.public_size` carves one off `data.train`"
            )
        data.check(module.backbones)
        with isolate_rng(), torch.enable_grad(), self._learning() as learns:
            torch.manual_seed(self.seed)
            optimizer = torch.optim.AdamW(learns, lr=self.lr, weight_decay=self.weight_decay)
            loader = data.dataloader(
                data.public, self.backbone.tokenizer, self.seed, self.batch_size
            )
            steps = self.epochs * len(loader)
            schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / steps, steps)
            batches = chain.from_iterable(_epoch(loader, epoch) for epoch in range(self.epochs))
            here = (move_data_to_device(batch, module.device) for batch in batches)
            descend(optimizer, (self._loss(batch)[0] for batch in here), schedule)
        said = f"the teacher has learnt {len(data.public):,} public rows in {steps:,} steps"
        if data.validation is not None:
            right = self._accuracy(module, data.validation)
            said += f"; its accuracy on `data.validation` is {right:.4f}"
        rank_zero_info(said)

    @contextmanager
    def _learning(self) -> Iterator[list[nn.Parameter]]:
        """Within the block what learns is as it was built, and has gradients."""
        parameters = self.backbone.trainable()
        built = self._built()
        learns = {name: parameters[name] for name in built}
        require_wide(learns, "model.teacher.backbone")
        for name, parameter in learns.items():
            parameter.data.copy_(built[name])
            parameter.requires_grad_()
        self.backbone.train()
        try:
            yield list(learns.values())
        finally:
            self.backbone.eval().requires_grad_(False)
            self.backbone.zero_grad(set_to_none=True)

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The cross-entropy of a batch's labels, how many it predicts, and how many rightly."""
        prediction = self.backbone(batch)
        logits = prediction.logits if self._order is None else prediction.logits[:, self._order]
        loss = cross_entropy(logits, prediction.targets, prediction.mask, batch.get("weight"))
        right = (logits.argmax(-1) == prediction.targets) & prediction.mask
        return loss, prediction.mask.sum(), right.sum()

    @torch.no_grad()
    def _accuracy(self, module: FederatedModule, rows: Dataset) -> float:
        loader = module.data.dataloader(rows, self.backbone.tokenizer)
        found = [self._loss(move_data_to_device(batch, module.device))[1:] for batch in loader]
        count, right = (float(torch.stack(one).sum()) for one in zip(*found, strict=True))
        return right / max(count, 1.0)


def _epoch(loader: DataLoader[dict[str, Tensor]], epoch: int) -> DataLoader[dict[str, Tensor]]:
    """The batches, in the order of an epoch."""
    sampler: Any = loader.sampler
    sampler.set_epoch(epoch)
    return loader
