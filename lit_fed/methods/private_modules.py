"""What a client learns beside the backbone stays with it."""

from __future__ import annotations

import torch

from lit_fed.module import FederatedModule
from lit_fed.payload import Payload


class PrivateModulesMixin(FederatedModule):
    """Keeps what a method's modules other than the backbone hold with the client: its private state.

    For instance the running mean of a client's deviation, or the magnitudes that its perturbation
    has learnt.

    Args:
        **kwargs: For the next class.
    """

    def private_state(self) -> Payload:
        """Client: parameters and buffers of all modules beside the backbone."""
        return Payload(self._beside_backbone())

    @torch.no_grad()
    def load_private_state(self, state: Payload) -> None:
        """Client: take them back."""
        held = self._beside_backbone()
        for name, value in state.matching(held, "private state").items():
            held[name].copy_(value)

    def _beside_backbone(self) -> dict[str, torch.Tensor]:
        return {
            f"{child}.{name}": value
            for child, module in self.named_children()
            if module is not self.backbone
            for name, value in module.state_dict().items()
        }
