"""A mean over everything seen so far."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_fed.losses.masked_mean import masked_mean


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
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def update(self, values: Tensor, mask: Tensor) -> None:
        """Take in values of any shape where ``mask`` of the same shape is true."""
        added = mask.sum().to(self.count)
        share = added / (self.count + added).clamp(min=1)
        self.mean += share * (masked_mean(values, mask).to(self.mean) - self.mean)
        self.count += added
