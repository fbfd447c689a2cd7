"""A teacher that is another, frozen model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from lit_fed import losses
from lit_fed.backbones import Backbone, CausalLM, Prediction
from lit_fed.losses import mean_pool
from lit_fed.methods.teachers.own_rows import OwnRows
from lit_fed.methods.teachers.teacher import Teacher, silent

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule


class FrozenTeacher(Teacher, nn.Module):
    """Another model, larger or smaller than the student, which never trains and is never exchanged.

    A classifier may be of another width, family and tokenizer: where its tokenizer is another one, it reads the texts
    of the same rows by its own. Its labels have to be the student's by name; their order may differ. A language model
    predicts tokens, so it has to have the student's tokenizer.

    Args:
        backbone: The teacher's model, which is frozen here.
        projector: Takes the teacher's pooled states [B, d_t] to the student's size [B, d], for instance
            from :func:`fit_projector`; frozen here. None: states stay as they are.
        labels: Names of the teacher's labels in the order of the student's. None: the names in the two
            models' configurations have to be the same.
        cache_mb: Megabytes for the predictions of this round, once for a client's own rows and once for
            public ones; what does not fit is computed again. 0: none is kept.

    Attributes:
        reads_itself: Whether it reads the texts of rows by a tokenizer of its own.
    """

    def __init__(
        self,
        backbone: Backbone,
        projector: nn.Module | None = None,
        labels: Sequence[str] | None = None,
        cache_mb: float = 1024.0,
    ) -> None:
        super().__init__(cache_mb)
        self.backbone = backbone.requires_grad_(False).eval()
        self.labels = None if labels is None else tuple(labels)
        # In a tuple, where torch does not find it: what it finds beside the backbones is taken for a
        # method's own, which trains and stays with the client.
        self._projector = () if projector is None else (projector.requires_grad_(False).eval(),)
        self._order: list[int] | None = None
        self.reads_itself = False
        self._rows: OwnRows | None = None
        self._public: OwnRows | None = None

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever the method does."""
        return super().train(False)

    def attach(self, student: Backbone) -> None:
        """Compare tokenizers and labels with the student's.

        Raises:
            ValueError: If the teacher predicts something else than the student.
        """
        super().attach(student)
        teacher = self.backbone
        if isinstance(teacher, CausalLM) != self.language_model:
            raise ValueError(
                f"`model.teacher.backbone` is expected to predict what the student, a "
                f"{type(student).__name__}, predicts, but is a {type(teacher).__name__}"
            )
        own, students = teacher.tokenizer, student.tokenizer
        other = own.get_vocab() != students.get_vocab()
        # a classifier may find the end of a row by the padding that it knows
        padded = (own.pad_token_id, own.padding_side) != (
            students.pad_token_id,
            students.padding_side,
        )
        self.reads_itself = not self.language_model and (other or padded)
        if self.language_model:
            if other:
                raise ValueError(
                    f"`model.teacher.backbone` is expected to have the student's tokenizer, whose "
                    f"{len(student.tokenizer)} tokens a language model is to learn to predict from it, but has another "
                    f"one with {len(teacher.tokenizer)} tokens"
                )
            sizes = [b.model.config.get_text_config().vocab_size for b in (student, teacher)]
            if sizes[0] != sizes[1]:
                raise ValueError(
                    f"`model.teacher.backbone` is expected to predict the student's {sizes[0]} tokens, but "
                    f"predicts {sizes[1]}"
                )
        else:
            self._order = self._label_order(student)

    def read(self, data: FederatedDataModule, rows: Dataset) -> None:
        """Tokenise the rows for this model, where it has a tokenizer of its own; see :meth:`Teacher.read`."""
        if self.reads_itself:
            tokenizer = self.backbone.tokenizer
            self._rows = OwnRows(data.features(rows, tokenizer))
            public = data.public
            self._public = None if public is None else OwnRows(data.features(public, tokenizer))

    def as_read(self, batch: Mapping[str, Tensor], public: bool) -> Mapping[str, Tensor]:
        """The same rows by this model's tokenizer, where that is another one than the student's.

        Raises:
            ValueError: If the batch does not say which rows it has, or they have not been read.
        """
        if not self.reads_itself:
            return batch
        rows = self._public if public else self._rows
        if rows is None or "index" not in batch:
            raise ValueError(
                "`model.teacher.backbone` has another tokenizer than the student, so that it expects the rows of a "
                "FederatedDataModule and batches with their ids `index`, but has "
                f"{'no rows to read' if rows is None else 'a batch without'}"
            )
        return rows.batch(batch["index"])

    def predict(self, batch: Mapping[str, Tensor], hidden: bool) -> Prediction:
        """The frozen model's pass, in the student's labels and hidden size; see :meth:`Teacher.predict`."""
        with torch.no_grad():
            prediction: Prediction = self.backbone(batch, output_hidden=hidden)
            if self._order is not None:
                prediction = replace(prediction, logits=prediction.logits[:, self._order])
            if prediction.hidden is not None:
                state = mean_pool(prediction.hidden, prediction.attention_mask)
                with torch.autocast(state.device.type, enabled=False):
                    for projector in self._projector:
                        state = projector.to(state)(state)
                prediction = replace(prediction, hidden=state)
        return prediction

    def _label_order(self, student: Backbone) -> list[int] | None:
        """The teacher's place for each of the student's labels; None where they are the same."""
        own = _label_names(self.backbone)
        wanted = _label_names(student)
        names = wanted if self.labels is None else self.labels
        if sorted(own) != sorted(names) or len(names) != len(wanted):
            raise ValueError(
                f"`model.teacher` is expected to know the student's {len(wanted)} labels, {', '.join(names)}, but "
                f"knows {', '.join(own)} (`model.teacher.labels` names them in the student's order, and "
                "`model.backbone.label_names` names the student's)"
            )
        order = [own.index(name) for name in names]
        return None if order == list(range(len(own))) else order


def _label_names(backbone: Backbone) -> tuple[str, ...]:
    names: Mapping[int, str] = backbone.model.config.id2label
    return tuple(names[label] for label in sorted(names))


def fit_projector(
    teacher: Backbone,
    student: Backbone,
    batches: Iterable[Mapping[str, Tensor]],
    ridge: float = 1e-6,
    teacher_batches: Iterable[Mapping[str, Tensor]] | None = None,
) -> nn.Linear:
    """The frozen affine map that best takes a teacher's pooled states to a student's, by least squares.

    See :func:`lit_fed.losses.fit_projector`.

    Args:
        teacher: The model whose states are mapped.
        student: The model whose states are met.
        batches: Batches that the student reads, on its device; at least one.
        ridge: ρ ≥ 0, relative to the mean variance of the teacher's states.
        teacher_batches: The same rows in the same order as the teacher reads them. None: as the student does, where
            both have one tokenizer.

    Returns:
        A ``nn.Linear(d_t, d)`` for ``FrozenTeacher.projector``.

    Raises:
        ValueError: If there are no batches, or not as many rows for one model as for the other.
    """
    batches = list(batches)
    own = batches if teacher_batches is None else list(teacher_batches)
    if not batches or not own:
        raise ValueError("`batches` of fit_projector are expected to be one or more, but got none")
    return losses.fit_projector(_pooled(teacher, own), _pooled(student, batches), ridge)


def _pooled(backbone: Backbone, batches: Iterable[Mapping[str, Tensor]]) -> Tensor:
    """The mean-pooled last hidden states of batches' rows, [N, d]."""
    states = []
    for batch in batches:
        with silent(backbone):
            prediction: Prediction = backbone(batch, output_hidden=True)
        if prediction.hidden is not None:
            states.append(mean_pool(prediction.hidden, prediction.attention_mask))
    return torch.cat(states)
