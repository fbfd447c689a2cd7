"""DropBlock: spans of tokens are dropped from a module's output."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_fed.limits import require_at_least, require_fraction
from lit_fed.perturbations.perturbation import OutputPerturbation


class DropBlock(OutputPerturbation):
    r"""Drops spans of tokens from a module's output and rescales the rest by numel/kept.

    Ghiasi et al., "DropBlock: A regularization method for convolutional networks", 2018, Algorithm 1,
    https://arxiv.org/abs/1810.12890, along the tokens. The paper's seed rate γ ≈ rate/block_size counts
    overlapping blocks twice; γ = 1 − (1 − rate)^{1/block_size}, with blocks that may begin before the
    first token, drops every token with probability ``rate`` exactly.

    Args:
        rate: Probability that a token is dropped, within [0, 1).
        block_size: Tokens in a span, at least 1.
        scale: ρ ≥ 0: 1 drops a token altogether, less only weakens it.
        **kwargs: Of :class:`~lit_fed.perturbations.perturbation.Perturbation`.

    Raises:
        ValueError: If the rate or the block size is out of range.

    Example:
        >>> drop, mask = DropBlock(rate=0.5), torch.ones(1, 8, dtype=torch.bool)
        >>> output = torch.ones(1, 8, 1)
        >>> delta = drop.delta(nn.Identity(), output, mask, torch.Generator().manual_seed(1))
        >>> perturbed = output + delta
        >>> perturbed.sum()  # what is kept makes up for what is dropped
        tensor(8.)
    """

    def __init__(
        self, rate: float = 0.1, block_size: int = 3, scale: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(scale=scale, **kwargs)
        self.rate = require_fraction("perturbation.rate", rate)
        self.block_size = require_at_least("perturbation.block_size", block_size, 1)

    def delta(
        self, module: nn.Module, output: Tensor, mask: Tensor, generator: torch.Generator
    ) -> Tensor:
        """M ⊙ (keep · numel/kept − 1)."""
        batch, length = mask.shape
        places = torch.rand(
            (batch, length + self.block_size - 1), generator=generator, device=generator.device
        )
        begins = (places < 1 - (1 - self.rate) ** (1 / self.block_size)).float()
        dropped = F.max_pool1d(begins.unsqueeze(1), self.block_size, stride=1).squeeze(1)
        kept = mask & (dropped == 0).to(mask.device)
        factor = kept * (mask.sum() / kept.sum().clamp(min=1)).to(output.dtype)
        return output * (factor - 1).unsqueeze(-1)
