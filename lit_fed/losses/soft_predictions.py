"""What a model predicts at a temperature."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_fed.losses.precision import widen


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
