"""Alignment of hidden representations."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_fed.limits import require_non_negative
from lit_fed.losses.masked_mean import masked_mean
from lit_fed.losses.mean_pool import mean_pool
from lit_fed.losses.predictions import Predicted, widen

Reduction = Literal["mean", "sum"]


def alignment(
    student_hidden: Tensor,
    teacher_hidden: Tensor,
    attention_mask: Tensor | None = None,
    reduction: Reduction = "mean",
    weight: Tensor | None = None,
    projector: nn.Module | None = None,
) -> Tensor:
    r"""Mean over the batch of (1/d) · ‖h_s − h_t‖², h the mean-pooled last hidden state.

    L_align of DDG (Zou (2024), §3.1), a client's own term of the sum. The teacher gets no gradient; for
    identical states the loss and the student's gradient are exactly 0.

    Args:
        student_hidden: [B, L, d], or already pooled, [B, d].
        teacher_hidden: [B, L, d_t], or already pooled (as a cache keeps it), [B, d_t].
        attention_mask: [B, L], not 0 where there is a token. An example without one does not count. None:
            all are tokens.
        reduction: Over d. "sum" gives the paper's literal squared norm, which grows with d.
        weight: Weight of each example, [B].
        projector: Takes the student's pooled state from d to d_t, in its own dtype. None where d = d_t.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: If the sizes differ and there is no projector, or ``reduction`` is unknown.

    Example:
        >>> student, teacher = torch.ones(1, 2, 4), torch.zeros(1, 2, 4)
        >>> alignment(student, teacher, torch.ones(1, 2), reduction="sum")
        tensor(4.)
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"`reduction` is expected to be 'mean' or 'sum', but got {reduction!r}")
    student = _pooled(student_hidden, attention_mask)
    teacher = _pooled(teacher_hidden.detach(), attention_mask)
    if projector is not None:
        student = _projected(projector, student)
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's pooled state is expected to have the teacher's shape, "
            f"{list(teacher.shape)}, but got {list(student.shape)}: give a projector from "
            f"{student.shape[-1]} to {teacher.shape[-1]}"
        )
    squares = (student - teacher).square()
    distances = squares.mean(-1) if reduction == "mean" else squares.sum(-1)
    present = None if attention_mask is None else attention_mask.bool().any(-1)
    return masked_mean(distances, present, weight)


def _pooled(hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
    return widen(hidden) if hidden.dim() == 2 else mean_pool(hidden, attention_mask)


def _projected(projector: nn.Module, state: Tensor) -> Tensor:
    """A projected state, computed in the projector's own dtype also where mixed precision is on."""
    dtype = next((p.dtype for p in projector.parameters()), state.dtype)
    with torch.autocast(state.device.type, enabled=False):
        return widen(projector(state.to(dtype)))


class AlignmentMixin:
    """Gives a method λ₂ · :func:`alignment`.

    Args:
        lambda_align: λ₂ ≥ 0, weight of the representation alignment. 0: off. The paper names no value.
        align_reduction: Over the d features: "sum", the paper's literal squared norm, or "mean". Beside the
            task's gradient that of the sum grows as √d, so that a weight of its own size would swamp the task in
            wide models; that of the mean falls as 1/√d and does nothing in any (0.001 of the task's on
            all-MiniLM-L6-v2 and SST-2 at λ₂ = 0.1, d = 384). Hence the sum, with a small weight.
        align_projector: Where the teacher's hidden size differs: maps the student's pooled state to
            it, for instance ``torch.nn.Linear``. It trains along unless it is frozen.
        **kwargs: For the next class.
    """

    def __init__(
        self,
        *,
        lambda_align: float = 0.01,
        align_reduction: Reduction = "sum",
        align_projector: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.lambda_align = require_non_negative("model.lambda_align", lambda_align)
        if align_reduction not in ("mean", "sum"):
            raise ValueError(
                f"`model.align_reduction` is expected to be 'mean' or 'sum', "
                f"but got {align_reduction!r}"
            )
        self.align_reduction: Reduction = align_reduction
        self.align_projector = align_projector

    def alignment_loss(
        self, student: Predicted, teacher: Predicted | Tensor | None, weight: Tensor | None = None
    ) -> Tensor:
        """λ₂ · mean (1/d)‖h_k − h_g‖², Zou (2024), L_DDG.

        Args:
            student: The client's pass, with its hidden states.
            teacher: The teacher's pass on the same batch with its hidden states, or these pooled,
                [B, d_t]. None only where λ₂ = 0.
            weight: Weight of each example, [B].

        Returns:
            A scalar, weighted; 0 without looking at the teacher where λ₂ = 0.

        Raises:
            ValueError: If hidden states are needed and there are none.
        """
        if not self.lambda_align:
            return torch.zeros((), device=student.logits.device)
        states = teacher if teacher is None or isinstance(teacher, Tensor) else teacher.hidden
        if student.hidden is None or states is None:
            missing = "student" if student.hidden is None else "teacher"
            raise ValueError(
                f"`{missing}` is expected to have hidden states where `model.lambda_align` > 0: "
                f"ask for them by output_hidden=True"
            )
        return self.lambda_align * alignment(
            student.hidden,
            states,
            student.attention_mask,
            self.align_reduction,
            weight,
            self.align_projector,
        )
