"""A metric whose states hold counts beside values, which half precision would round."""

from __future__ import annotations

import torch
from torchmetrics import Metric


class WideStates(Metric):
    """A metric whose states are of at least float32, whatever the default dtype: bfloat16 has no 257.

    Args:
        kwargs: Arguments of :class:`torchmetrics.Metric`.
    """

    @property
    def dtype(self) -> torch.dtype:
        """That of the states, and of those that a process without data makes."""
        return torch.promote_types(super().dtype, torch.float32)
