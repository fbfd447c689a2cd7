"""The frozen teacher: a second adapter on the resident base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor

from lit_fed.backbones import CausalLM, Prediction
from lit_fed.losses import mean_pool
from lit_fed.losses.hyperparameter import at_least
from lit_fed.methods.row_cache import RowCache
from lit_fed.module import FederatedModule

TEACHER: Final = "teacher"


class TeacherMixin(FederatedModule):
    """Gives a method a teacher: the model as it was when the round began, p_g.

    It is a frozen adapter (with its head) on the base that the student stands on, so it costs no
    second model. It predicts without dropout, gradient and perturbation, and what it predicts for a
    row is kept until the next round, so that a row that a client sees again costs nothing.

    In a stock Trainer the teacher is the model the method was built with, or was last downloaded.

    Args:
        teacher_cache_mb: Megabytes for the teacher's predictions of this round; what does not fit is
            computed again. 0: none is kept.
        **kwargs: For the next class.
    """

    def __init__(self, *, teacher_cache_mb: float = 1024.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        budget = int(at_least(teacher_cache_mb, 0.0, "teacher_cache_mb") * 2**20)
        # Row ids are positions in a table, so each table has a cache of its own.
        self.private_cache, self.public_cache = RowCache(budget), RowCache(budget)
        self.has_teacher = False

    def check_split(self) -> None:
        """A row that one process has kept and another has not would make them take different passes."""
        super().check_split()
        if self.has_teacher and self.private_cache.budget:
            raise ValueError(
                "`model.teacher_cache_mb` is expected to be 0 where a batch is split over processes, which "
                f"have to take the same passes, but got {self.private_cache.budget / 2**20:g}"
            )

    def add_teacher(self) -> None:
        """Add the adapter, with the values that the student has now."""
        self.backbone.add_adapter(TEACHER)
        self.has_teacher = True
        self.set_teacher()

    def set_teacher(self) -> None:
        """The teacher ← the student. Nothing happens where there is no teacher."""
        self.private_cache.clear()
        self.public_cache.clear()
        if self.has_teacher:
            self.backbone.load_trainable(self.backbone.trainable(), TEACHER)

    def on_train_start(self) -> None:
        """A stock Trainer may bring other rows under the same ids."""
        self.private_cache.clear()
        self.public_cache.clear()

    def teacher(
        self, batch: Mapping[str, Tensor], pooled: bool = False, public: bool = False
    ) -> Prediction:
        """What the teacher predicts for a batch, from the cache where it is there.

        Args:
            batch: A batch.
            pooled: Whether the prediction's ``hidden`` is wanted: the mean-pooled state, [B, d].
            public: Whether these are rows of the public set.
        """

        def compute(rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
            with self.timers("teacher"), self.silent(TEACHER):
                prediction = self(rows, output_hidden=pooled)
            fields = {"logits": prediction.logits}
            if prediction.hidden is not None:
                fields["hidden"] = mean_pool(prediction.hidden, prediction.attention_mask)
            return fields

        cache = self.public_cache if public else self.private_cache
        fields = cache.get(batch, compute, per_place=self.per_place)
        attention = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
        mask = attention[:, 1:] if self.per_place else attention.any(-1)
        return Prediction(fields["logits"], None, mask, fields.get("hidden"), attention)

    @property
    def per_place(self) -> tuple[str, ...]:
        """Which of a prediction's fields have a value for each token: a language model's logits."""
        return ("logits", "consensus") if isinstance(self.backbone, CausalLM) else ()

    @contextmanager
    def silent(self, *adapters: str) -> Iterator[None]:
        """Without dropout and gradient, and with other adapters if any are named."""
        training = self.backbone.training
        if training:
            self.backbone.eval()
        try:
            with torch.no_grad():
                if adapters:
                    with self.backbone.using(*adapters):
                        yield
                else:
                    yield
        finally:
            if training:
                self.backbone.train()
