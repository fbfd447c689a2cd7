"""The proximal term: how far a client's weights have gone from those that it has downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lit_fed.limits import require_non_negative
from lit_fed.losses.predictions import widen


def proximal(parameters: Mapping[str, Tensor], anchors: Mapping[str, Tensor]) -> Tensor:
    r"""½ Σ ‖θ − θ_g‖², over all tensors together.

    The proximal term of Li et al., "Federated Optimization in Heterogeneous Networks", 2020, eq. 2,
    https://arxiv.org/abs/1812.06127, without its weight μ. Its gradient is θ − θ_g.

    Args:
        parameters: θ by name, of any shapes. Those without an anchor do not count.
        anchors: θ_g by name, of the same shapes.

    Returns:
        A scalar, at least float32; 0 without anchors.

    Raises:
        ValueError: If a parameter is missing or has another shape than its anchor.

    Example:
        >>> proximal({"w": torch.tensor([3.0, 1.0])}, {"w": torch.tensor([1.0, 1.0])})
        tensor(2.)
    """
    squares = []
    for name, anchor in anchors.items():
        if name not in parameters or parameters[name].shape != anchor.shape:
            came = list(parameters[name].shape) if name in parameters else "none"
            raise ValueError(
                f"`parameters` are expected to have {name!r} of shape {list(anchor.shape)} as its anchor has, but got "
                f"{came}"
            )
        squares.append((widen(parameters[name]) - anchor).square().sum())
    return torch.stack(squares).sum() / 2 if squares else torch.zeros(())


class ProximalMixin:
    """Gives a method μ · :func:`proximal`.

    Args:
        mu: μ ≥ 0, how strongly a client's weights are pulled to those that it has downloaded. 0: off.
        **kwargs: For the next class.
    """

    def __init__(self, *, mu: float = 0.01, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mu = require_non_negative("model.mu", mu)

    def proximal_loss(
        self, parameters: Mapping[str, Tensor], anchors: Mapping[str, Tensor]
    ) -> Tensor:
        """μ/2 · ‖θ − θ_g‖², Li et al. (2020), eq. 2.

        Args:
            parameters: θ by name.
            anchors: θ_g by name.

        Returns:
            A scalar, weighted; 0 where μ = 0.
        """
        if not self.mu:
            return torch.zeros(())
        return self.mu * proximal(parameters, anchors)
