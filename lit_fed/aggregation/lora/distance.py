"""The distance of what a rule makes of LoRA's factors from the weighted sum of their products."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Self

from torch import Tensor

from lit_fed.aggregation.aggregation import Aggregation
from lit_fed.aggregation.lora.changes import Changes
from lit_fed.aggregation.lora.factors import LoRALayout
from lit_fed.aggregation.lora.products import Product, relative_distance
from lit_fed.aggregation.lora.rule import LoRARule
from lit_fed.payload import Payload
from lit_fed.update import Update

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone

DISTANCE: Final = "server/lora_distance"
"""The name under which the distance is logged."""


class LoRADistance:
    r"""How far the server's changes are from the clients', over all weights together.

    .. math:: \frac{\lVert \Delta_g - \sum_k w_k s_k B_k A_k \rVert_F}{\lVert \sum_k w_k s_k B_k A_k \rVert_F}

    The mean of factors is not the factors of the mean: mean(B)·mean(A) ≠ mean(B·A). w_k are the rule's own weights. No
    matrix is built while the clients' ranks together are below the weight's own; beyond that one weight at a time is.

    Args:
        changes: Reads the changes out of updates and broadcasts.
    """

    def __init__(self, changes: Changes) -> None:
        self.changes = changes

    @classmethod
    def of(cls, backbone: Backbone, rule: Aggregation) -> Self | None:
        """The distance of a rule's results, where it can be told.

        Args:
            backbone: The backbone, before it is divided among processes.
            rule: The rule, after its ``setup``.

        Returns:
            None where the server has no products: the backbone is no plain LoRA, there is no global model, or clients
            train other adapters and the rule does not say what they are.
        """
        if isinstance(rule, LoRARule):
            changes = rule.changes()
            return None if changes is None else cls(changes)
        if not rule.has_global_model or type(rule).adapter is not Aggregation.adapter:
            return None
        try:
            return cls(Changes(LoRALayout.of(backbone, type(rule).__name__)))
        except ValueError:  # another kind of adapter, which other rules average as well
            return None

    def metrics(
        self,
        updates: Sequence[Update],
        weights: Sequence[float],
        before: Mapping[str, Tensor],
        broadcast: Payload,
    ) -> dict[str, float]:
        """What is logged: the distance; nothing where the clients' sum is 0 and the server's change is not.

        Args:
            updates: What the clients have sent.
            weights: w_k, one per update.
            before: What the server had, frozen factors among it.
            broadcast: What the rule has made of it.
        """
        combined = self.changes.combined(broadcast, before)
        sent = [self.changes.sent(update, before) for update in updates]

        def exact() -> Iterator[Product]:
            for layer in combined:
                yield Product.sum((factors[layer] for factors in sent), weights)

        distance = relative_distance(combined.values(), exact())
        return {DISTANCE: distance} if math.isfinite(distance) else {}
