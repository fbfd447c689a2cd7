"""The task loss."""

from __future__ import annotations

from typing import Final

import torch.nn.functional as F
from torch import Tensor

from lit_fed.losses.masked_mean import masked_mean
from lit_fed.losses.predictions import widen

_IGNORED: Final = -100
"""The target of a position that is left out, as in torch."""


def cross_entropy(
    logits: Tensor, targets: Tensor, mask: Tensor | None = None, weight: Tensor | None = None
) -> Tensor:
    r"""Mean cross-entropy −log p(target) over the unmasked positions, in at least float32.

    Args:
        logits: [B, C] for classification, [B, L, V] for language models (already shifted).
        targets: Class or token ids, [B] or [B, L]. Masked positions may hold anything, −100 by custom.
        mask: Where the loss is taken, [B] or [B, L], bool. None: where the target is not −100, as in torch.
        weight: Weight of each example, [B].

    Returns:
        A scalar in nats.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> import torch
        >>> logits = torch.zeros(2, 4)
        >>> cross_entropy(logits, torch.tensor([1, -100]), torch.tensor([True, False]))
        tensor(1.3863)
        >>> cross_entropy(logits, torch.tensor([1, 2]))
        tensor(1.3863)
    """
    nats, mask = target_nats(logits, targets, mask)
    return masked_mean(nats, mask, weight)


def target_nats(
    logits: Tensor, targets: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""−log p(target) at each position, in at least float32; 0 where the loss is not taken.

    Args:
        logits: [B, C] or [B, L, V].
        targets: [B] or [B, L].
        mask: [B] or [B, L], bool. None: where the target is not −100.

    Returns:
        The nats, and the mask, both of the targets' shape.

    Raises:
        ValueError: If the shapes do not fit.
    """
    if logits.shape[:-1] != targets.shape:
        raise ValueError(
            f"`targets` are expected to have shape {list(logits.shape[:-1])}, that of `logits` without its last "
            f"dimension, but got {list(targets.shape)}"
        )
    if mask is None:
        mask = targets != _IGNORED
    nats = F.cross_entropy(
        widen(logits).flatten(0, -2),
        targets.masked_fill(~mask, _IGNORED).flatten(),
        ignore_index=_IGNORED,
        reduction="none",
    )
    return nats.view_as(targets), mask
