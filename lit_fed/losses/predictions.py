"""Predictions as losses see them: a pass's fields, its soft predictions, their temperature and precision."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from lit_fed.limits import require_positive


class Predicted(Protocol):
    """A forward pass as the loss mixins see it; every backbone's ``Prediction`` is one."""

    @property
    def logits(self) -> Tensor:
        """[B, C], or [B, L, V] already shifted for language models."""

    @property
    def mask(self) -> Tensor:
        """Where the loss is taken, [B] or [B, L], bool."""

    @property
    def hidden(self) -> Tensor | None:
        """Last hidden state [B, L, d], or one already pooled [B, d]; None if not asked for."""

    @property
    def attention_mask(self) -> Tensor:
        """Which positions of ``hidden`` are no padding, [B, L]."""


class TemperatureMixin:
    """Gives a method the one temperature of all its distillation losses.

    Args:
        temperature: T > 0 of the teacher's and the student's softmax.
        **kwargs: For the next class.
    """

    def __init__(self, *, temperature: float = 3.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = require_positive("model.temperature", temperature)


@torch.no_grad()
def soft_predictions(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Predictions log softmax(z / T), without a gradient.

    Args:
        logits: z, [..., C].
        temperature: T > 0.

    Returns:
        Log-probabilities, [..., C], at least float32.

    Example:
        >>> soft_predictions(torch.tensor([0.0, 6.0]), temperature=3.0).exp()
        tensor([0.1192, 0.8808])
    """
    return (widen(logits) / temperature).log_softmax(-1)


def widen(values: Tensor) -> Tensor:
    """``values`` in at least float32: half precision is widened, float64 stays.

    Example:
        >>> widen(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
        >>> widen(torch.ones(2, dtype=torch.float64)).dtype
        torch.float64
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
