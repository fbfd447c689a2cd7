"""KL(target ‖ student) of each example: the core of every distillation loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lit_fed.losses.predictions import widen
from lit_fed.losses.top_k import TopK


def kl_divergence(
    student_logits: Tensor,
    target: Tensor | TopK,
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    r"""T² · KL(target ‖ softmax(z / T)) of each example or token, in nats.

    T² keeps the gradient's size when T changes (Hinton et al., "Distilling the Knowledge in a Neural
    Network", 2015, §2.1, https://arxiv.org/abs/1503.02531). The gradient goes to the student alone;
    it is computed as T·(q − p), so that it is exactly 0 where the two distributions are the same.

    Args:
        student_logits: z, [..., C].
        target: The target's log-probabilities at temperature T, [..., C] and normalised, or its top-k
            probabilities with the tail as one lump, softened by T as :func:`~lit_fed.losses.top_k` does.
        mask: Where to compute it, [...], bool. Elsewhere anything may stand, NaN included. None: everywhere.
        temperature: T > 0.

    Returns:
        [...], at least float32, 0 where masked.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> z = torch.tensor([[1.0, 2.0, 3.0]])
        >>> kl_divergence(z, z.log_softmax(-1), torch.tensor([True]))
        tensor([0.])
    """
    shape = target.probs.shape if isinstance(target, TopK) else target.shape
    leading = student_logits.shape[:-1]
    # a top-k target has its own last dimension
    if shape[:-1] != leading or (isinstance(target, Tensor) and shape != student_logits.shape):
        raise ValueError(
            f"the teacher's predictions are expected to fit the student's, which have shape "
            f"{list(student_logits.shape)}, but got {list(shape)}"
        )
    if mask is None:
        mask = torch.ones(leading, dtype=torch.bool, device=student_logits.device)
    if mask.shape != leading:
        raise ValueError(
            f"`mask` is expected to have shape {list(leading)}, but got {list(mask.shape)}"
        )
    logits = widen(student_logits)
    if isinstance(target, TopK):
        return _lumped(logits, target, mask, temperature)
    rows: Tensor = _Dense.apply(logits, widen(target).detach(), mask, temperature)  # type: ignore[no-untyped-call]
    return rows


class _Dense(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, target: Tensor, mask: Tensor, temperature: float) -> Tensor:
        log_q = (logits / temperature).log_softmax(-1)
        p = target.exp()
        # where p = 0 the term is 0, but 0 · (−∞ − x) would be NaN
        rows = (p * (target - log_q)).where(p != 0, 0.0).sum(-1)
        return temperature**2 * rows.masked_fill(~mask, 0.0)

    @staticmethod
    def setup_context(
        ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float], output: Tensor
    ) -> None:
        logits, target, mask, ctx.temperature = inputs
        ctx.save_for_backward(logits, target, mask)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        logits, target, mask = ctx.saved_tensors
        q = (logits / ctx.temperature).log_softmax(-1).exp()
        slope = (q - target.exp()).masked_fill(~mask.unsqueeze(-1), 0.0)
        return ctx.temperature * grads[0].unsqueeze(-1) * slope, None, None, None


def _lumped(logits: Tensor, target: TopK, mask: Tensor, temperature: float) -> Tensor:
    """The same for k tokens and all others as one, which the temperature softens as it did the target's."""
    logits = logits.masked_fill(~mask.unsqueeze(-1), 0.0)
    indices = target.indices.long().masked_fill(~mask.unsqueeze(-1), 0)
    p = widen(target.probs.detach()).masked_fill(~mask.unsqueeze(-1), 0.0)
    # a mixture's list may repeat a token with probability 0, and half precision may leave nothing of one
    counts = p > 0
    listed = torch.zeros_like(logits).scatter_add(-1, indices, counts.to(logits.dtype)) > 0
    complete = listed.all(-1, keepdim=True)
    # a complete list leaves no tail, and the logsumexp of nothing would have a NaN gradient
    rest = logits.masked_fill(listed & ~complete, -torch.inf).logsumexp(-1, keepdim=True)
    lumped = torch.cat(
        [
            logits.gather(-1, indices).masked_fill(~counts, -torch.inf),
            rest.masked_fill(complete, -torch.inf),
        ],
        -1,
    )
    log_q = (lumped / temperature).log_softmax(-1)
    tail = (1 - p.sum(-1, keepdim=True)).clamp(min=0).masked_fill(complete, 0.0)
    p = torch.cat([p, tail], -1)
    # half precision leaves a listed mass slightly off 1
    p = p / p.sum(-1, keepdim=True).clamp(min=torch.finfo(p.dtype).tiny)
    rows = (torch.xlogy(p, p) - p * log_q.masked_fill(p == 0, 0.0)).sum(-1)
    return temperature**2 * rows.masked_fill(~mask, 0.0)
