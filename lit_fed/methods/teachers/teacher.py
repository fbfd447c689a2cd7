"""The interface of a teacher: a model that predicts a client's batches and is not trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lit_fed.backbones import Backbone, CausalLM, Prediction
from lit_fed.client import Client
from lit_fed.limits import require_non_negative
from lit_fed.losses import mean_pool
from lit_fed.methods.teachers.row_cache import RowCache

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule
    from lit_fed.module import FederatedModule

Transform = Callable[[Mapping[str, Tensor], Prediction], Prediction]
"""Makes another prediction of a batch and what the teacher predicts for it; a public batch has no ``index``."""


class Teacher(ABC):
    """Predicts batches without dropout, gradient and perturbation, each row once a round.

    Args:
        cache_mb: Megabytes for predictions of this round, once for a client's own rows and once for
            public ones; what does not fit is computed again. 0: none is kept.

    Attributes:
        attached: Whether a method uses it.
        transform: Changes every prediction on its way to the student, after it was kept, for instance
            to simulate a tampered teacher. None: predictions arrive as they are.

    Raises:
        ValueError: If ``cache_mb`` is below 0.
    """

    def __init__(self, cache_mb: float = 1024.0) -> None:
        super().__init__()
        budget = int(require_non_negative("model.teacher.cache_mb", cache_mb) * 2**20)
        # Row ids are positions in a table, so each table has a cache of its own.
        self.private_cache, self.public_cache = RowCache(budget), RowCache(budget)
        self.transform: Transform | None = None
        self.attached = self.language_model = False

    def attach(self, student: Backbone) -> None:
        """Make ready to teach a backbone; called once, when the method is built, if its loss has a teacher.

        Args:
            student: The backbone that is trained.

        Raises:
            ValueError: If this teacher cannot teach it.
        """
        self.attached, self.language_model = True, isinstance(student, CausalLM)

    # Not abstract: most teachers read what the student reads.
    def read(self, data: FederatedDataModule, rows: Dataset) -> None:  # noqa: B027
        """Take the rows whose batches come from here on, for a teacher with a tokenizer of its own. Default: nothing.

        Args:
            data: What they belong to, and tokenises them.
            rows: The rows of a client's stage, or those of a stock Trainer, in whatever order.
        """

    def as_read(self, batch: Mapping[str, Tensor], public: bool) -> Mapping[str, Tensor]:
        """A batch as this teacher reads it. Default: as the student does.

        Args:
            batch: A batch, tokenised for the student.
            public: Whether these are rows of the public set.
        """
        return batch

    @abstractmethod
    def predict(self, batch: Mapping[str, Tensor], hidden: bool) -> Prediction:
        """What the model itself predicts, without a gradient.

        Args:
            batch: A batch, as :meth:`as_read` gives it.
            hidden: Whether the prediction has the last hidden state, [B, L, d], or pooled, [B, d].
        """

    # Not abstract: most teachers are what they were built.
    def setup(self, module: FederatedModule) -> None:  # noqa: B027
        """Make ready before a fit, for a teacher that is made of the data. Default: nothing.

        Args:
            module: The method, with its data, on its device.

        Raises:
            ConfigurationError: If the data lack what it is made of.
        """

    def start_round(self, client: Client | None) -> None:
        """The student has downloaded: forget the predictions of another round and client.

        Args:
            client: Whose round begins; None on the server and in a stock Trainer.
        """
        self.forget()

    def end_round(self, client: Client | None) -> None:
        """The student has trained. Default: nothing.

        Args:
            client: Whose round ends.
        """
        return

    def forget(self) -> None:
        """Drop all predictions that were kept, as where other rows come under the same ids."""
        self.private_cache.clear()
        self.public_cache.clear()

    def check_split(self) -> None:
        """Say whether batches can be split over processes, which have to take the same passes.

        Raises:
            ValueError: If one process may have kept a row that another has not.
        """
        if self.attached and self.private_cache.budget:
            raise ValueError(
                "`model.teacher.cache_mb` is expected to be 0 where a batch is split over processes, which "
                f"have to take the same passes, but got {self.private_cache.budget / 2**20:g}"
            )

    def __call__(
        self, batch: Mapping[str, Tensor], hidden: bool = False, public: bool = False
    ) -> Prediction:
        """What the student learns from: the prediction of a batch, from the cache where it is there.

        Args:
            batch: A batch, tokenised for the student.
            hidden: Whether the prediction has ``hidden``: the mean-pooled state, [B, d].
            public: Whether these are rows of the public set.

        Returns:
            The prediction, without targets, changed by ``transform`` if there is one.
        """

        def compute(rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
            prediction = self.predict(self.as_read(rows, public), hidden)
            fields = {"logits": prediction.logits}
            if prediction.hidden is not None:
                state = prediction.hidden
                if state.dim() == 3:
                    state = mean_pool(state, prediction.attention_mask)
                fields["hidden"] = state
            return fields

        cache = self.public_cache if public else self.private_cache
        fields = cache.get(batch, compute, per_place=("logits",) if self.language_model else ())
        attention = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
        mask = attention[:, 1:] if self.language_model else attention.any(-1)
        prediction = Prediction(fields["logits"], None, mask, fields.get("hidden"), attention)
        if self.transform is None:
            return prediction
        if public:  # ids of public rows are positions in another table than a client's
            batch = {name: value for name, value in batch.items() if name != "index"}
        return self.transform(batch, prediction)


def teachers_of(module: nn.Module) -> list[Teacher]:
    """The teachers that a method has and uses.

    Args:
        module: The method.
    """
    parts = [*vars(module).values(), *module.children()]
    return [part for part in parts if isinstance(part, Teacher) and part.attached]


@contextmanager
def silent(backbone: Backbone, *adapters: str) -> Iterator[None]:
    """Within the block a backbone has no dropout and no gradient.

    Args:
        backbone: The backbone.
        *adapters: Adapters that take part instead of the active ones, if any are named.
    """
    training = backbone.training
    if training:
        backbone.eval()
    try:
        with torch.no_grad():
            if adapters:
                with backbone.using(*adapters):
                    yield
            else:
                yield
    finally:
        if training:
            backbone.train()
