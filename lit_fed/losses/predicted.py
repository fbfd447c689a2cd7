"""What a loss needs to know of a forward pass."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


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
