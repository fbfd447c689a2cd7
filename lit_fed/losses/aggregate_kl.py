"""Distillation from the clients' aggregate, guided by how far a client has drifted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lit_fed.limits import require_non_negative
from lit_fed.losses.kl_distill import as_target
from lit_fed.losses.kl_divergence import kl_divergence
from lit_fed.losses.masked_mean import masked_mean
from lit_fed.losses.predictions import Predicted, TemperatureMixin, widen
from lit_fed.losses.top_k import TopK


@torch.no_grad()
def semantic_deviation(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """δ = ‖softmax(z_s) − softmax(z_t)‖₂ of each example or token, at T = 1, without a gradient.

    Semantic deviation of Zou (2024), §3.1.

    Args:
        student_logits: [..., C].
        teacher_logits: [..., C].

    Returns:
        [...], within [0, √2], at least float32.

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> semantic_deviation(torch.tensor([[0.0, 50.0]]), torch.tensor([[50.0, 0.0]]))
        tensor([1.4142])
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"`teacher_logits` are expected to have the student's shape, "
            f"{list(student_logits.shape)}, but got {list(teacher_logits.shape)}"
        )
    difference = widen(student_logits).softmax(-1) - widen(teacher_logits).softmax(-1)
    deviation: Tensor = torch.linalg.vector_norm(difference, dim=-1)
    return deviation


@torch.no_grad()
def guidance_strength(
    student_logits: Tensor,
    teacher_logits: Tensor,
    gamma: float = 3.0,
    center: Tensor | None = None,
) -> Tensor:
    r"""α = σ(γ · δ), or σ(γ · (δ − center)), of each example or token, without a gradient.

    The distillation guidance strength α_k of Zou (2024), §3.1; δ is :func:`semantic_deviation`. As
    δ ∈ [0, √2], α lies in [½, σ(γ√2)]: without a centre no example gets less than half.

    Args:
        student_logits: [..., C].
        teacher_logits: [..., C].
        gamma: γ ≥ 0; the paper calls it τ as well.
        center: A δ for which α is to be ½, for instance the running mean of δ; a scalar.

    Returns:
        [...].

    Raises:
        ValueError: If the shapes differ.

    Example:
        >>> logits = torch.tensor([[0.0, 1.0]])
        >>> guidance_strength(logits, logits)
        tensor([0.5000])
    """
    return _strength(semantic_deviation(student_logits, teacher_logits), gamma, center)


def _strength(deviation: Tensor, gamma: float, center: Tensor | None) -> Tensor:
    return torch.sigmoid(gamma * (deviation if center is None else deviation - center))


def aggregate_kl(
    student_logits: Tensor,
    consensus: Tensor | TopK,
    alpha: Tensor,
    mask: Tensor | None = None,
    temperature: float = 3.0,
    weight: Tensor | None = None,
) -> Tensor:
    r"""Mean of α · T² · KL(P̄ ‖ softmax(z / T)) over the unmasked positions.

    The third term of L_DDG (Zou (2024), §3.1), a client's own part of the sum. α gets no gradient.

    Args:
        student_logits: z, [B, C], or [B, L, V] (already shifted) for language models.
        consensus: P̄, probabilities **already at temperature T**, of the student's shape (normalised
            here), or their top-k with the tail as one lump.
        alpha: Strength of each position, [B] or [B, L].
        mask: Where the loss is taken, [B] or [B, L], bool. None: everywhere.
        temperature: T > 0.
        weight: Weight of each example, [B].

    Returns:
        A scalar in nats.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> student, consensus = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.9, 0.1]])
        >>> aggregate_kl(student, consensus, torch.tensor([0.5]), torch.tensor([True]), 1.0)
        tensor(0.1840)
    """
    rows = kl_divergence(student_logits, as_target(consensus), mask, temperature)
    if alpha.shape != rows.shape:
        raise ValueError(
            f"`alpha` is expected to have shape {list(rows.shape)}, but got {list(alpha.shape)}"
        )
    return masked_mean(alpha.detach() * rows, mask, weight)


class RunningMean(nn.Module):
    """The cumulative mean of unmasked values; its state is two buffers, ``mean`` and ``count``.

    Example:
        >>> running = RunningMean()
        >>> running.update(torch.tensor([1.0, 2.0, 9.0]), torch.tensor([True, True, False]))
        >>> running.update(torch.tensor([6.0]), torch.tensor([True]))
        >>> running.mean
        tensor(3.)
    """

    mean: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        # an integer, for in float32 a count comes to rest at 2²⁴
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, values: Tensor, mask: Tensor | None = None) -> None:
        """Take in values of any shape where ``mask`` of the same shape is true; None: all."""
        if mask is None:
            mask = torch.ones_like(values, dtype=torch.bool)
        added = mask.sum().to(self.count)
        share = added / (self.count + added).clamp(min=1)
        self.mean += share * (masked_mean(values, mask).to(self.mean) - self.mean)
        self.count += added


class AggregateKLMixin(TemperatureMixin):
    """Gives a method λ₃ · :func:`aggregate_kl` with its :func:`guidance_strength`.

    Args:
        lambda_aggregate: λ₃ ≥ 0, weight of the distillation from the clients' aggregate predictions.
            0: off.
        gamma: γ ≥ 0, how steeply the guidance grows with a client's semantic deviation.
        center: Whether to subtract the running mean of the deviation, so that the guidance is not
            confined to [½, σ(γ√2)]. The mean is kept in the buffers of ``running_deviation``, which
            a method may put into a client's private state.
        **kwargs: For the next class.
    """

    def __init__(
        self,
        *,
        lambda_aggregate: float = 0.5,
        gamma: float = 3.0,
        center: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.lambda_aggregate = require_non_negative("model.lambda_aggregate", lambda_aggregate)
        self.gamma = require_non_negative("model.gamma", gamma)
        self.running_deviation = RunningMean() if center else None

    def _alpha(self, student: Predicted, teacher: Predicted) -> Tensor:
        """α of each example or token, [B] or [B, L]; with ``center`` the running mean takes δ in.

        Args:
            student: The client's pass.
            teacher: The teacher's pass on the same rows.
        """
        deviation = semantic_deviation(student.logits, teacher.logits)
        if self.running_deviation is None:
            return _strength(deviation, self.gamma, None)
        self.running_deviation.update(deviation, student.mask)
        return _strength(deviation, self.gamma, self.running_deviation.mean)

    def aggregate_kl_loss(
        self,
        student: Predicted,
        teacher: Predicted | None,
        consensus: Tensor | TopK | None,
        weight: Tensor | None = None,
        observe: Callable[[Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """λ₃ · mean(α · KD(P̄ → p_k)), Zou (2024), L_DDG.

        Args:
            student: The client's pass on public samples.
            teacher: The teacher's pass on them. None only where the loss is off.
            consensus: P̄ of these samples at the method's temperature; None where there is none yet,
                as in round 0.
            weight: Weight of each example, [B].
            observe: Called with α of each position and the mask, for instance to log them.

        Returns:
            A scalar, weighted; 0 without looking at the teacher where λ₃ = 0 or there is no P̄.

        Raises:
            ValueError: If a teacher is needed and there is none.
        """
        if not self.lambda_aggregate or consensus is None:
            return torch.zeros((), device=student.logits.device)
        if teacher is None:
            raise ValueError(
                "`teacher` is expected where `model.lambda_aggregate` > 0, but got None"
            )
        alpha = self._alpha(student, teacher)
        if observe is not None:
            observe(alpha, student.mask)
        return self.lambda_aggregate * aggregate_kl(
            student.logits, consensus, alpha, student.mask, self.temperature, weight
        )
