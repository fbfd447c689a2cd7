"""Perplexity of a language model on tokens."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_fed.metrics.running_ratio import RunningRatio


class Perplexity(RunningRatio):
    r"""The exponential of the mean cross-entropy over tokens, from 1 upwards; lower is better.

    .. math:: \exp\left(-\frac{1}{N} \sum_i \log p(\text{token}_i)\right)

    The same as :class:`torchmetrics.text.Perplexity`, which takes the logarithm of a probability that has been
    rounded: a token that a model holds for very unlikely makes it infinite, and half precision spoils it. Here the
    logarithm is taken of the scores, in at least float32, and sums are in float64. Logits and targets are shifted
    already, as :class:`~lit_fed.backbones.Prediction` has them.

    NaN (nothing to tell): no token counts.

    Args:
        ignore_index: The target of what does not count, such as prompts and padding.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> metric = Perplexity()
        >>> metric.update(preds=torch.zeros(1, 3, 8), target=torch.tensor([[1, 5, -100]]))
        >>> round(metric.compute().item(), 4)
        8.0
    """

    higher_is_better = False
    plot_lower_bound = 1.0

    def __init__(self, ignore_index: int = -100, **kwargs: Any) -> None:
        super().__init__([ignore_index], scale=1.0, **kwargs)
        self.ignore_index = ignore_index

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds tokens.

        Args:
            preds: Logits, [B, L, V].
            target: Token ids, [B, L].

        Raises:
            ValueError: If the shapes are others.
        """
        if preds.ndim != 3 or preds.shape[:2] != target.shape:
            raise ValueError(
                "`preds` and `target` are expected to have shapes [batch, tokens, vocabulary] and [batch, tokens], "
                f"but have {list(preds.shape)} and {list(target.shape)}"
            )
        dtype = torch.promote_types(preds.dtype, torch.float32)
        kept = target != self.ignore_index
        nats = F.cross_entropy(preds[kept].to(dtype), target[kept], reduction="none")
        whole = getattr(self, self._whole)
        self.add(nats.detach().to(whole.dtype).sum(), kept.sum())

    def compute(self) -> Tensor:
        """The perplexity, a scalar."""
        return self.ratio().exp()
