"""What the rules over LoRA share: they know which weights are factors, and refuse what has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import nn

from lit_fed.aggregation.lora.changes import Changes
from lit_fed.aggregation.lora.factors import LoRALayout
from lit_fed.aggregation.weighted_average import WeightedAverage

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone


class LoRARule(WeightedAverage):
    """A weighted average that knows which of the weights are LoRA's factors.

    Whatever else is trained, such as a head, is averaged by :class:`~lit_fed.aggregation.WeightedAverage`.

    Args:
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Attributes:
        layout: Which tensors of the server's adapter are factors, after :meth:`setup`.
    """

    layout: LoRALayout

    def setup(self, backbone: Backbone) -> None:
        """Find the factors.

        Raises:
            ValueError: If the backbone's adapter is no plain LoRA, or keeps one of the factors as it was built.
        """
        rule = type(self).__name__
        self.layout = LoRALayout.of(backbone, rule)
        require_both_train(self.layout, backbone.trainable(), rule)

    def changes(self) -> Changes | None:
        """How the clients' and the server's changes of the weights are read; None where the server has none."""
        return Changes(self.layout)


def require_both_train(layout: LoRALayout, weights: Mapping[str, nn.Parameter], rule: str) -> None:
    """Refuse a LoRA that trains one factor alone, such as MiCA.

    Args:
        layout: Which tensors are factors.
        weights: The adapter's, as the backbone trains them.
        rule: The class that asks, for the message.

    Raises:
        ValueError: Naming a factor that does not train.
    """
    for name in sorted(layout.names):
        if not weights[name].requires_grad:
            raise ValueError(
                f"`model.aggregation` {rule} expects `model.backbone.peft` to be a LoRA that trains both of its "
                f"factors, but {name} stays as it was built"
            )
