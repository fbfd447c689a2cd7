"""Stability of predictions under structural perturbation."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from lit_fed.limits import require_non_negative
from lit_fed.losses.masked_mean import masked_mean
from lit_fed.losses.predictions import Predicted, widen

Space = Literal["probabilities", "logits"]


def stability(
    logits: Tensor,
    perturbed_logits: Tensor,
    mask: Tensor | None = None,
    on: Space = "probabilities",
    weight: Tensor | None = None,
) -> Tensor:
    r"""Mean of ‖p − p̃‖² over the unmasked positions, p = softmax(z) of the clean and the perturbed pass.

    L_stability of MSI (Zou (2024), §3.2). Both passes get a gradient. Where the passes agree bit for
    bit, the loss and its gradient are exactly 0.

    Args:
        logits: z of the clean pass, [B, C], or [B, L, V] for language models.
        perturbed_logits: z̃ of the perturbed pass.
        mask: Where the loss is taken, [B] or [B, L], bool. None: everywhere.
        on: What to compare. On "logits" the loss is unbounded and sees shifts that no softmax does.
        weight: Weight of each example, [B].

    Returns:
        A scalar, within [0, 2] on probabilities.

    Raises:
        ValueError: If the shapes differ, or ``on`` is unknown.

    Example:
        >>> clean, perturbed = torch.tensor([[0.0, 99.0]]), torch.tensor([[99.0, 0.0]])
        >>> stability(clean, perturbed, torch.tensor([True]))
        tensor(2.)
    """
    if on not in ("probabilities", "logits"):
        raise ValueError(f"`on` is expected to be 'probabilities' or 'logits', but got {on!r}")
    if logits.shape != perturbed_logits.shape:
        raise ValueError(
            f"`perturbed_logits` are expected to have the shape of `logits`, "
            f"{list(logits.shape)}, but got {list(perturbed_logits.shape)}"
        )
    p, q = widen(logits), widen(perturbed_logits)
    if mask is not None:
        # filled before the softmax: the gradient of a masked NaN would be NaN
        p, q = (z.masked_fill(~mask.unsqueeze(-1), 0.0) for z in (p, q))
    if on == "probabilities":
        p, q = p.softmax(-1), q.softmax(-1)
    return masked_mean((p - q).square().sum(-1), mask, weight)


class InjectionWeightMixin:
    """Gives a method the one weight μ of L_MSI = L_stability + β · L_weight.

    Args:
        mu: μ ≥ 0, weight of modular structure injection in the client's loss. 0: off.
        **kwargs: For the next class.
    """

    def __init__(self, *, mu: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mu = require_non_negative("model.mu", mu)


class StabilityMixin(InjectionWeightMixin):
    """Gives a method μ · :func:`stability`.

    Args:
        stability_on: Whether to compare the passes' "probabilities" or their "logits".
        **kwargs: For the next class.
    """

    def __init__(self, *, stability_on: Space = "probabilities", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if stability_on not in ("probabilities", "logits"):
            raise ValueError(
                f"`model.stability_on` is expected to be 'probabilities' or 'logits', "
                f"but got {stability_on!r}"
            )
        self.stability_on: Space = stability_on

    def stability_loss(
        self, clean: Predicted, perturbed: Predicted | None, weight: Tensor | None = None
    ) -> Tensor:
        """μ · L_stability, Zou (2024), L_MSI.

        Args:
            clean: The client's pass.
            perturbed: Its pass under perturbation on the same batch with the same dropout; None on
                steps without injection.
            weight: Weight of each example, [B].

        Returns:
            A scalar, weighted; 0 where μ = 0 or there is no perturbed pass.
        """
        if not self.mu or perturbed is None:
            return torch.zeros((), device=clean.logits.device)
        return self.mu * stability(
            clean.logits, perturbed.logits, clean.mask, self.stability_on, weight
        )
