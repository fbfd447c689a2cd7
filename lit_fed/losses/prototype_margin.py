"""Prototype margin: representations that are too far from their prototype are pulled towards it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_fed.limits import require_non_negative
from lit_fed.losses.masked_mean import masked_mean
from lit_fed.losses.mean_pool import mean_pool
from lit_fed.losses.predictions import Predicted, widen


def prototype_margin(
    states: Tensor,
    prototypes: Tensor,
    assignment: Tensor | None = None,
    margin: float = 0.3,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    allowed: Tensor | None = None,
) -> Tensor:
    r"""Mean over the batch of max(0, 1 − cos(r, P_a) − m).

    The prototype consistency loss of Bergman et al., "Robust Knowledge Distillation in Distributed LLMs Using
    Prototype-Constrained Semantic Defense Mechanisms", §3. Prototypes get no gradient. Within the margin the loss and
    its gradient are exactly 0, and neither depends on the length of a representation but for the gradient's scale.

    Args:
        states: r, the student's representations, [B, d].
        prototypes: P, [P, d], of any length other than 0.
        assignment: a, the place of each row's prototype, [B], long. None: the nearest one by cosine.
        margin: m in [0, 2).
        mask: Which examples count, [B], bool. None: all.
        weight: Weight of each example, [B].
        allowed: Where there is no ``assignment``: which prototypes the nearest one is sought among, [B, P], bool, at
            least one a row. None: all.

    Returns:
        A scalar in [0, 2 − m].

    Raises:
        ValueError: If the widths differ, or the margin is out of range.

    Example:
        >>> states, prototypes = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0]])
        >>> prototype_margin(states, prototypes, margin=0.25)  # cosines of 1 and 0
        tensor(0.3750)
    """
    require_margin("margin", margin)
    cosines = prototype_cosines(states, prototypes)
    if assignment is None:
        sought = cosines if allowed is None else cosines.masked_fill(~allowed, -torch.inf)
        nearest = sought.max(-1).values
    else:
        nearest = cosines.gather(-1, assignment.to(cosines.device).unsqueeze(-1)).squeeze(-1)
    return masked_mean((1.0 - nearest - margin).relu(), mask, weight)


def prototype_cosines(states: Tensor, prototypes: Tensor) -> Tensor:
    """The cosines of representations and prototypes, [B, P], with a gradient by the representations alone.

    Args:
        states: [B, d].
        prototypes: [P, d].

    Returns:
        Values in [−1, 1], at least float32.

    Raises:
        ValueError: If the widths differ.

    Example:
        >>> prototype_cosines(torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        tensor([[ 0.6000, -0.8000]])
    """
    if states.shape[-1] != prototypes.shape[-1]:
        raise ValueError(
            f"`states` are expected to have the width of the prototypes, {prototypes.shape[-1]}, but have "
            f"{states.shape[-1]}: a projector from {states.shape[-1]} to {prototypes.shape[-1]} is needed, such as "
            f"that of `model.project` true"
        )
    # out of autocast, which would take the product in half precision
    with torch.autocast(states.device.type, enabled=False):
        unit = F.normalize(widen(states), dim=-1)
        return unit @ F.normalize(widen(prototypes.detach()).to(unit), dim=-1).T


def require_margin(setting: str, margin: float) -> float:
    """A margin of cosine distance, which goes from 0 to 2.

    Args:
        setting: The setting, as in YAML.
        margin: What it gives.

    Raises:
        ValueError: If it is out of range.

    Example:
        >>> require_margin("model.margin", 2.0)
        Traceback (most recent call last):
        ValueError: `model.margin` is expected to be at least 0 and below 2, the largest cosine distance, but got 2.0
    """
    if not 0 <= margin < 2:
        raise ValueError(
            f"`{setting}` is expected to be at least 0 and below 2, the largest cosine distance, but got {margin!r}"
        )
    return margin


class PrototypeMarginMixin:
    """Gives a method λ · :func:`prototype_margin`.

    Args:
        lambda_prototype: λ ≥ 0, weight of the prototype margin. 0: off.
        margin: m in [0, 2), the cosine distance up to which a representation is left alone.
        **kwargs: For the next class.
    """

    def __init__(
        self, *, lambda_prototype: float = 1.0, margin: float = 0.3, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.lambda_prototype = require_non_negative("model.lambda_prototype", lambda_prototype)
        self.margin = require_margin("model.margin", margin)

    def prototype_margin_loss(
        self,
        student: Predicted,
        prototypes: Tensor | None,
        assignment: Tensor | None = None,
        weight: Tensor | None = None,
        margin: float | None = None,
        projector: nn.Module | None = None,
        allowed: Tensor | None = None,
    ) -> Tensor:
        """λ · mean max(0, 1 − cos(g(r), P_a) − m), Bergman et al., §3.

        Args:
            student: The client's pass, with its hidden states; r is their mean over a row's tokens.
            prototypes: P, [P, d]. None only where λ = 0 or the margin is off.
            assignment: Places of the rows' prototypes, [B]. None: the nearest ones.
            weight: Weight of each example, [B].
            margin: m of this step. None: the mixin's own.
            projector: g, frozen. None: g(r) = r.
            allowed: As for :func:`prototype_margin`.

        Returns:
            A scalar, weighted; 0 without looking at the states where λ = 0.

        Raises:
            ValueError: If hidden states are needed and there are none, or widths differ.
        """
        if not self.lambda_prototype or prototypes is None:
            return torch.zeros((), device=student.logits.device)
        hidden = student.hidden
        if hidden is None:
            raise ValueError(
                "`student` is expected to have hidden states where `model.lambda_prototype` > 0: ask for them by "
                "output_hidden=True"
            )
        states = widen(hidden) if hidden.dim() == 2 else mean_pool(hidden, student.attention_mask)
        if projector is not None:
            with torch.autocast(states.device.type, enabled=False):
                states = projector.to(states)(states)
        own = self.margin if margin is None else margin
        present = student.attention_mask.bool().any(-1)
        loss = prototype_margin(states, prototypes, assignment, own, present, weight, allowed)
        return self.lambda_prototype * loss
