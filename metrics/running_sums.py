"""Sums that run over many examples, in float64 where the device has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric


def sum_dtype(device: torch.device) -> torch.dtype:
    """The dtype of sums on a device: float64, or float32 on MPS, which has no other.

    In float32 a sum of 10⁷ ones and zeros is off in its fourth digit, and 2²⁴ + 1 is 2²⁴.

    Args:
        device: The device.

    Example:
        >>> sum_dtype(torch.device("cpu"))
        torch.float64
    """
    return torch.float32 if device.type == "mps" else torch.float64


class RunningSums(Metric):
    """A metric whose states are sums in float64; they become float32 where a device has nothing wider.

    Args:
        kwargs: Arguments of :class:`torchmetrics.Metric`.
    """

    def add_sum(self, name: str, *shape: int) -> None:
        """Add a state of zeros that is summed over processes.

        Args:
            name: Name of the state.
            shape: Its shape.
        """
        self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def _apply(self, fn: Callable[..., Any], exclude_state: Sequence[str] = "") -> nn.Module:
        # torchmetrics tells by the function's name whether it is one that converts, which states ignore
        @wraps(fn)
        def moved(tensor: Tensor) -> Any:
            try:
                return fn(tensor)
            except TypeError:
                if tensor.dtype != torch.float64:
                    raise
                return fn(tensor.float())

        return super()._apply(moved, exclude_state)
