"""Prediction: the output of a backbone for a batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Prediction:
    """The output of a backbone for a batch of B texts of L tokens, ready for a loss.

    Language models are already shifted: position t of ``logits`` and ``targets`` is about token t + 1.

    Args:
        logits: Unnormalised log-probabilities [B, C], or [B, L-1, V] for language models.
        targets: Class or token ids [B] or [B, L-1], -100 where there is nothing to learn. None: the
            batch has no labels.
        mask: bool [B] or [B, L-1], where the loss is taken. Without labels: every text, or every
            token that is no padding.
        hidden: Last hidden state before the head [B, L, d], if it was asked for.
        attention_mask: 1 for tokens, 0 for padding [B, L].
    """

    logits: Tensor
    targets: Tensor | None
    mask: Tensor
    hidden: Tensor | None
    attention_mask: Tensor
