"""What clients have sent and what the server makes of it, as changes of the weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lit_fed.aggregation.lora.factors import Factors, LoRALayout
from lit_fed.aggregation.lora.products import Product
from lit_fed.payload import Payload
from lit_fed.update import Update


class Changes:
    """Reads changes s·B·A out of updates and broadcasts that hold all or some of the factors of one adapter.

    A rule whose broadcast changes weights beside its factors has a subclass that adds this.

    Args:
        layout: Which tensors are factors, the same for clients and server.

    Example:
        >>> import torch
        >>> from lit_fed.aggregation.lora.factors import FactorNames
        >>> changes = Changes(LoRALayout({"q": FactorNames("a", "b", scale=2.0)}))
        >>> update = Update("ward-3", Payload({"b": torch.ones(3, 1)}), num_samples=10)
        >>> changes.sent(update, {"a": torch.ones(1, 4)})["q"].b.shape
        torch.Size([3, 1])
    """

    def __init__(self, layout: LoRALayout) -> None:
        self.layout = layout

    def layout_of(self, client_id: str) -> LoRALayout:
        """Which tensors of a client's update are factors, and with what scale. Default: the server's layout.

        Args:
            client_id: The client.
        """
        return self.layout

    def sent(self, update: Update, before: Mapping[str, Tensor]) -> dict[str, Factors]:
        """A client's factors by layer; what it has not sent is as it was before.

        Args:
            update: What the client has sent.
            before: What the server had, frozen factors among it.
        """
        return self.layout_of(update.client_id).factors({**before, **update.payload.tensors})

    def combined(self, broadcast: Payload, before: Mapping[str, Tensor]) -> dict[str, Product]:
        """What the new broadcast makes of each weight's change, by layer.

        Args:
            broadcast: The new broadcast.
            before: What the server had, frozen factors among it.
        """
        factors = self.layout.factors({**before, **broadcast.tensors})
        return {layer: Product.sum([own], [1.0]) for layer, own in factors.items()}
