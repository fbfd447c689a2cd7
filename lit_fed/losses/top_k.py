"""Predictions over a large vocabulary, cut to what matters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lit_fed.limits import require_at_least
from lit_fed.losses.predictions import widen


@dataclass(frozen=True)
class TopK:
    r"""A distribution as its k largest probabilities; the rest is one lump, the tail.

    With k of V probabilities a language model's soft predictions take k·(4 + 2) bytes a token in a
    payload instead of V·2.

    A temperature softens the k + 1 probabilities, in which the tail is one: :math:`p_i^{1/T}`, normalised. Were
    each of the V tokens softened first, the tail's many small ones would come to nearly all of the mass (95 %
    of SmolLM2's at T = 3 and k = 32), and the listed tokens to nothing that could be learnt. For k = V it is the
    same. At T = 1 the KL divergence between two lumped distributions is a lower bound of that between the full
    ones (log-sum inequality), tight as the tail vanishes.

    Attributes:
        indices: Distinct token ids, [..., k], an integer dtype. One with probability 0 counts as not listed.
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
    """The k largest probabilities of softmax(logits) with all others as one, softened by a temperature.

    Args:
        logits: [..., V].
        k: How many, at least 1; capped at V.
        temperature: T > 0.

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
    wide = widen(logits)
    listed, indices = wide.topk(min(k, wide.shape[-1]), -1)
    if k < wide.shape[-1]:
        rest = wide.scatter(-1, indices, -torch.inf).logsumexp(-1, keepdim=True)
        lumped = torch.cat([listed, rest], -1)
    else:
        lumped = listed
    probs = (lumped / temperature).softmax(-1)
    return TopK(indices, probs[..., : indices.shape[-1]])
