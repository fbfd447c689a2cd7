"""Predictions over a large vocabulary, cut to what matters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_fed.limits import require_at_least
from lit_fed.losses.predictions import widen


@dataclass(frozen=True)
class TopK:
    """A distribution as its k largest probabilities; the rest is one lump, the tail.

    With k of V probabilities a language model's soft predictions take k·(4 + 2) bytes a token in a
    payload instead of V·2. The KL divergence between two lumped distributions is a lower bound of
    that between the full ones (log-sum inequality), tight as the tail vanishes.

    Attributes:
        indices: Distinct token ids, [..., k], an integer dtype.
        probs: Their probabilities, [..., k]; their sum may fall short of 1 by the tail's mass.

    Raises:
        ValueError: If the shapes differ.
    """

    indices: Tensor
    probs: Tensor

    def __post_init__(self) -> None:
        if self.indices.shape != self.probs.shape:
            raise ValueError(
                f"`indices` and `probs` are expected to have one shape, but got "
                f"{list(self.indices.shape)} and {list(self.probs.shape)}"
            )

    @property
    def tail(self) -> Tensor:
        """Mass of what is not listed, [...]."""
        return (1 - widen(self.probs).sum(-1)).clamp(min=0)

    def to(self, device: torch.device | str) -> TopK:
        """The same on another device."""
        return TopK(self.indices.to(device), self.probs.to(device))

    def __getitem__(self, rows: Tensor | slice) -> TopK:
        """The same for some of the leading dimension's rows."""
        return TopK(self.indices[rows], self.probs[rows])


@torch.no_grad()
def top_k(logits: Tensor, k: int, temperature: float = 1.0) -> TopK:
    """The k largest probabilities of softmax(logits / temperature).

    Args:
        logits: [..., V].
        k: How many, at least 1; capped at V.
        temperature: T.

    Returns:
        Indices (int64) and probabilities (at least float32), largest first.

    Raises:
        ValueError: If k is not positive.

    Example:
        >>> cut = top_k(torch.tensor([[0.0, 2.0, 1.0]]), k=2)
        >>> cut.indices
        tensor([[1, 2]])
        >>> cut.tail
        tensor([0.0900])
    """
    require_at_least("k", k, 1)
    probs, indices = (widen(logits) / temperature).softmax(-1).topk(min(k, logits.shape[-1]), -1)
    return TopK(indices, probs)
