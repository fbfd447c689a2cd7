"""The loss on public rows that carry pseudo-labels, each weighted by how sure its label is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lit_fed.limits import require_share
from lit_fed.losses.cross_entropy import target_nats
from lit_fed.losses.masked_mean import masked_mean


def pseudo_label(
    logits: Tensor, targets: Tensor, mask: Tensor | None = None, confidence: Tensor | None = None
) -> Tensor:
    r"""Mean of :math:`c_i \cdot (-\log p(\hat y_i))` over the unmasked positions, in at least float32.

    The confidences multiply the losses and do not normalise them: where all labels of a batch are unsure, the whole
    batch counts little. So it is no weighted mean as that of :func:`~lit_fed.losses.cross_entropy`.

    Args:
        logits: [B, C] for classification, [B, L, V] for language models (already shifted).
        targets: Pseudo-labels, class or token ids, [B] or [B, L]. Masked positions may hold anything.
        mask: Where the loss is taken, [B] or [B, L], bool. None: where the target is not -100.
        confidence: c of each row, [B], in [0, 1]. None: 1.

    Returns:
        A scalar in nats.

    Raises:
        ValueError: If the shapes do not fit.

    Example:
        >>> logits, targets = torch.zeros(2, 4), torch.tensor([1, 2])
        >>> pseudo_label(logits, targets, confidence=torch.tensor([1.0, 0.0]))
        tensor(0.6931)
    """
    nats, mask = target_nats(logits, targets, mask)
    if confidence is not None:
        nats = nats * confidence.to(nats).reshape(-1, *[1] * (nats.dim() - 1))
    return masked_mean(nats, mask)


class PseudoLabelMixin:
    """Gives a method η · :func:`pseudo_label`.

    Args:
        eta: η in [0, 1], the weight of the public rows beside a client's own. 0: off.
        weigh_by_confidence: Whether a row counts as much as its label's confidence; otherwise each counts the same.
        **kwargs: For the next class.

    Raises:
        ValueError: If η is not in [0, 1].
    """

    def __init__(
        self, *, eta: float = 1.0, weigh_by_confidence: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        # more would let public rows outweigh a client's own
        self.eta = require_share("model.eta", eta)
        self.weigh_by_confidence = weigh_by_confidence

    def pseudo_label_loss(
        self,
        logits: Tensor,
        targets: Tensor,
        mask: Tensor | None = None,
        confidence: Tensor | None = None,
    ) -> Tensor:
        """η times the loss on a batch of public rows; see :func:`pseudo_label`.

        Args:
            logits: [B, C] or [B, L, V].
            targets: [B] or [B, L].
            mask: As there.
            confidence: [B]; taken where the method weighs by it.

        Returns:
            A scalar, weighted; a constant 0 where η = 0.
        """
        if not self.eta:
            return torch.zeros(())
        weight = confidence if self.weigh_by_confidence else None
        return self.eta * pseudo_label(logits, targets, mask, weight)
