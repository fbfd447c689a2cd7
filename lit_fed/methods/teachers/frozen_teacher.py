"""A teacher that is another, frozen model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor, nn

from lit_fed import losses
from lit_fed.backbones import Backbone, CausalLM, Prediction
from lit_fed.losses import mean_pool
from lit_fed.methods.teachers.teacher import Teacher, silent


class FrozenTeacher(Teacher, nn.Module):
    """Another model, larger or smaller than the student, which never trains and is never exchanged.

    It reads the student's batches, so it has to have the student's tokenizer. A classifier's labels
    have to be the student's by name; their order may differ.

    Args:
        backbone: The teacher's model, which is frozen here.
        projector: Takes the teacher's pooled states [B, d_t] to the student's size [B, d], for instance
            from :func:`fit_projector`; frozen here. None: states stay as they are.
        labels: Names of the teacher's labels in the order of the student's. None: the names in the two
            models' configurations have to be the same.
        cache_mb: Megabytes for the predictions of this round, once for a client's own rows and once for
            public ones; what does not fit is computed again. 0: none is kept.
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

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever the method does."""
        return super().train(False)

    def attach(self, student: Backbone) -> None:
        """Compare tokenizers and labels with the student's.

        Raises:
            ValueError: If the teacher reads or predicts something else than the student.
        """
        super().attach(student)
        teacher = self.backbone
        if isinstance(teacher, CausalLM) != self.language_model:
            raise ValueError(
                f"`model.teacher.backbone` is expected to predict what the student, a "
                f"{type(student).__name__}, predicts, but is a {type(teacher).__name__}"
            )
        if teacher.tokenizer.get_vocab() != student.tokenizer.get_vocab():
            raise ValueError(
                f"`model.teacher.backbone` is expected to have the student's tokenizer, whose "
                f"{len(student.tokenizer)} tokens its batches are made of, but has another one with "
                f"{len(teacher.tokenizer)} tokens"
            )
        if self.language_model:
            sizes = [b.model.config.get_text_config().vocab_size for b in (student, teacher)]
            if sizes[0] != sizes[1]:
                raise ValueError(
                    f"`model.teacher.backbone` is expected to predict the student's {sizes[0]} tokens, but "
                    f"predicts {sizes[1]}"
                )
        else:
            self._order = self._label_order(student)

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
            hint = " (`model.teacher.labels` names them in the student's order)"
            raise ValueError(
                f"`model.teacher` is expected to know the student's {len(wanted)} labels, "
                f"{', '.join(names)}, but knows {', '.join(own)}{hint}"
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
) -> nn.Linear:
    """The frozen affine map that best takes a teacher's pooled states to a student's, by least squares.

    See :func:`lit_fed.losses.fit_projector`.

    Args:
        teacher: The model whose states are mapped.
        student: The model whose states are met.
        batches: Batches that both models read, on their device; at least one.
        ridge: ρ ≥ 0, relative to the mean variance of the teacher's states.

    Returns:
        A ``nn.Linear(d_t, d)`` for ``FrozenTeacher.projector``.

    Raises:
        ValueError: If there are no batches.
    """
    states: dict[str, list[Tensor]] = {"teacher": [], "student": []}
    for batch in batches:
        for name, backbone in (("teacher", teacher), ("student", student)):
            with silent(backbone):
                prediction: Prediction = backbone(batch, output_hidden=True)
                if prediction.hidden is not None:
                    states[name].append(mean_pool(prediction.hidden, prediction.attention_mask))
    if not states["teacher"]:
        raise ValueError("`batches` of fit_projector are expected to be one or more, but got none")
    return losses.fit_projector(torch.cat(states["teacher"]), torch.cat(states["student"]), ridge)
