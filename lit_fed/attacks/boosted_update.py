"""The attack that enlarges a client's change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from lit_fed.attacks.update_attack import UpdateAttack
from lit_fed.client import Client
from lit_fed.limits import require_positive


class BoostedUpdate(UpdateAttack):
    """Sends θ_g + factor·(θ_k − θ_g), so that the average becomes what the client wants.

    Bagdasaryan et al., "How To Backdoor Federated Learning", 2020, §4, https://arxiv.org/abs/1807.00459 (model
    replacement, where the factor is the number of clients over the server's step).

    Args:
        factor: How many times as long the change is, above 0.
        clients: Ids of the malicious clients.
        count: How many are, drawn by the seed: an integer is a count, a float a share.
        seed: Of the draw.
        until: Rounds in which the attack lasts, from the first on. None: all.

    Raises:
        ValueError: If ``factor`` is out of range, or not exactly one of ``clients`` and ``count`` is given.

    Example:
        >>> import torch
        >>> from lit_fed import Payload
        >>> trained, before = Payload({"w": torch.tensor([3.0])}), Payload({"w": torch.tensor([1.0])})
        >>> boosted = BoostedUpdate(100, clients=["a"])
        >>> boosted.upload(Client("a", 0, 8, 0, 0, 0), trained, before, Payload())[0].tensors["w"]
        tensor([201.])
    """

    def __init__(
        self,
        factor: float = 100.0,
        clients: Sequence[str] | None = None,
        count: int | float | None = None,
        seed: int = 0,
        until: int | None = None,
    ) -> None:
        super().__init__(clients, count, seed, until)
        self.factor = require_positive("trainer.attachments BoostedUpdate.factor", factor)

    def change(self, client: Client, changes: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """factor·(θ_k − θ_g)."""
        return {name: self.factor * change for name, change in changes.items()}
