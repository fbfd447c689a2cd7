"""The task loss where a target is a distribution over the classes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lit_fed.losses.masked_mean import masked_mean
from lit_fed.losses.predictions import widen


def soft_cross_entropy(
    logits: Tensor, targets: Tensor, mask: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    r"""Mean cross-entropy :math:`-\sum_c y_c \log p_c` over the unmasked positions, in at least float32.

    With one-hot targets it is :func:`~lit_fed.losses.cross_entropy`.

    Args:
        logits: [B, C], or [B, L, V] for language models (already shifted).
        targets: Probabilities, of the same shape; they get no gradient.
        mask: Where the loss is taken, [B] or [B, L], bool. None: everywhere.
        weight: Weight of each example, [B].

    Returns:
        A scalar in nats.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> import torch
        >>> soft_cross_entropy(torch.zeros(1, 4), torch.tensor([[0.5, 0.5, 0.0, 0.0]]))
        tensor(1.3863)
    """
    if logits.shape != targets.shape:
        raise ValueError(
            f"`targets` are expected to have shape {list(logits.shape)}, that of `logits`, but got "
            f"{list(targets.shape)}"
        )
    wide = widen(logits)
    if mask is not None and mask.shape == wide.shape[:-1]:
        # where nothing is taken anything may stand, and infinity would come back as a NaN in the gradient
        wide = wide.masked_fill(~mask.unsqueeze(-1), 0.0)
    nats = F.cross_entropy(
        wide.flatten(0, -2),
        targets.detach().to(wide).flatten(0, -2),
        reduction="none",
    )
    return masked_mean(nats.view(logits.shape[:-1]), mask, weight)
