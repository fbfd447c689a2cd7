"""Muon: momentum whose matrices are made orthogonal, in float32 and for all of one shape at once.

``torch.optim.Muon`` is the same, matrix by matrix in bfloat16, which most CPUs only emulate: there it takes
as long as the rest of a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Keller Jordan's Muon (https://kellerjordan.github.io/posts/muon/), with Nesterov's momentum.

    Args:
        params: Matrices.
        lr: Learning rate.
        momentum: Of the gradients.
        weight_decay: Decoupled, times the learning rate.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.02,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all matrices."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for matrix in group["params"]:
                shapes.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in shapes.items():
                directions = orthogonal(
                    torch.stack([self._momentum(matrix, group["momentum"]) for matrix in matrices])
                )
                scale = math.sqrt(max(1, shape[0] / shape[1]))
                for matrix, direction in zip(matrices, directions, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(direction, alpha=-group["lr"] * scale)

    def _momentum(self, matrix: Tensor, momentum: float) -> Tensor:
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        average: Tensor = state["momentum"].lerp_(matrix.grad, 1 - momentum)
        return torch.lerp(matrix.grad, average, momentum)


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices [N, R, C] by Newton and Schulz's iteration."""
    wide = matrices.shape[1] < matrices.shape[2]
    x = matrices.mT if wide else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x.mT @ x
        x = a * x + x @ (b * gram + c * gram @ gram)
    return x.mT if wide else x
