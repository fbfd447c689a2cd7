"""Knowledge distillation by KL divergence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lit_fed.limits import require_non_negative
from lit_fed.losses.kl_divergence import kl_divergence
from lit_fed.losses.masked_mean import masked_mean
from lit_fed.losses.predictions import Predicted, TemperatureMixin, widen
from lit_fed.losses.top_k import TopK


def kl_distill(
    student_logits: Tensor,
    teacher_logits: Tensor,
    mask: Tensor | None = None,
    temperature: float = 3.0,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Mean of T² · KL(softmax(z_t / T) ‖ softmax(z_s / T)) over the unmasked positions.

    L_distill of DDG (Zou (2024), §3.1), a client's own term of the sum; Hinton et al., 2015,
    https://arxiv.org/abs/1503.02531. The teacher gets no gradient; for identical logits the loss and
    the student's gradient are exactly 0.

    Args:
        student_logits: z_s, [B, C], or [B, L, V] (already shifted) for language models.
        teacher_logits: z_t, of the same shape.
        mask: Where the loss is taken, [B] or [B, L], bool. None: everywhere.
        temperature: T > 0.
        weight: Weight of each example, [B].

    Returns:
        A scalar in nats, at least 0.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        >>> kl_distill(student, teacher, torch.tensor([True]), temperature=1.0)
        tensor(0.3278)
    """
    log_target = (widen(teacher_logits.detach()) / temperature).log_softmax(-1)
    return masked_mean(kl_divergence(student_logits, log_target, mask, temperature), mask, weight)


def kl_distill_from_probs(
    student_logits: Tensor,
    teacher: Tensor | TopK,
    mask: Tensor | None = None,
    temperature: float = 3.0,
    weight: Tensor | None = None,
    log_target: bool = False,
) -> Tensor:
    """:func:`kl_distill` of a teacher given as its predictions, not its logits.

    Args:
        student_logits: [B, C], or [B, L, V] for language models.
        teacher: Probabilities **already at temperature T**, of the student's shape (normalised here,
            so half precision is fine); or their top-k with the tail as one lump.
        mask: Where the loss is taken, [B] or [B, L], bool. None: everywhere.
        temperature: T of the teacher's predictions, and of the student's softmax.
        weight: Weight of each example, [B].
        log_target: Whether ``teacher`` holds log-probabilities.

    Returns:
        A scalar in nats.

    Raises:
        ValueError: If the shapes do not fit, or a top-k teacher is said to be logarithmic.

    Example:
        >>> student = torch.tensor([[0.0, 0.0]])
        >>> teacher = torch.tensor([[0.0, 2.0]]).softmax(-1)
        >>> kl_distill_from_probs(student, teacher, torch.tensor([True]), temperature=1.0)
        tensor(0.3278)
    """
    rows = kl_divergence(student_logits, as_target(teacher, log_target), mask, temperature)
    return masked_mean(rows, mask, weight)


def as_target(probs: Tensor | TopK, log_target: bool = False) -> Tensor | TopK:
    """Predictions as :func:`~lit_fed.losses.kl_divergence` takes them: normalised, in log space.

    Args:
        probs: Probabilities [..., C], or top-k.
        log_target: Whether ``probs`` are log-probabilities already.

    Raises:
        ValueError: If a top-k target is said to be logarithmic.

    Example:
        >>> as_target(torch.tensor([1.0, 3.0])).exp()
        tensor([0.2500, 0.7500])
    """
    if isinstance(probs, TopK):
        if log_target:
            raise ValueError("`log_target` is expected to be false for a top-k teacher")
        return probs
    wide = widen(probs.detach())
    return (wide if log_target else wide.log()).log_softmax(-1)


class KLDistillMixin(TemperatureMixin):
    """Gives a method λ₁ · :func:`kl_distill`.

    Args:
        lambda_distill: λ₁ ≥ 0, weight of the distillation from the teacher. 0: off.
        **kwargs: For the next class.
    """

    def __init__(self, *, lambda_distill: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lambda_distill = require_non_negative("model.lambda_distill", lambda_distill)

    def kl_distill_loss(
        self, student: Predicted, teacher: Predicted | TopK | None, weight: Tensor | None = None
    ) -> Tensor:
        """λ₁ · KD(teacher → student), Zou (2024), L_DDG.

        Args:
            student: The client's pass.
            teacher: The teacher's pass on the same batch, or its top-k at the method's temperature.
                None only where λ₁ = 0.
            weight: Weight of each example, [B].

        Returns:
            A scalar, weighted; 0 without looking at the teacher where λ₁ = 0.

        Raises:
            ValueError: If a teacher is needed and there is none.
        """
        if not self.lambda_distill:
            return torch.zeros((), device=student.logits.device)
        if teacher is None:
            raise ValueError("`teacher` is expected where `model.lambda_distill` > 0, but got None")
        if isinstance(teacher, TopK):
            loss = kl_distill_from_probs(
                student.logits, teacher, student.mask, self.temperature, weight
            )
        else:
            loss = kl_distill(
                student.logits, teacher.logits, student.mask, self.temperature, weight
            )
        return self.lambda_distill * loss
