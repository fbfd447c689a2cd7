"""The attack that sends noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lit_fed.attacks.update_attack import UpdateAttack
from lit_fed.client import Client
from lit_fed.limits import require_positive


class RandomUpdate(UpdateAttack):
    """Sends θ_g + scale·‖θ_k − θ_g‖·u, with u of length 1 in a direction drawn anew for each client and round.

    Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", 2017, §6,
    https://arxiv.org/abs/1703.02757 (the Gaussian attack). The direction is a Gaussian's over all tensors together,
    drawn by the seed, the client's index and the round, so that it is the same in every execution and resumed run.

    Args:
        scale: How many times as long as the client's own change it is, above 0.
        clients: Ids of the malicious clients.
        count: How many are, drawn by the seed: an integer is a count, a float a share.
        seed: Of the draw and of the noise.
        until: Rounds in which the attack lasts, from the first on. None: all.

    Raises:
        ValueError: If ``scale`` is out of range, or not exactly one of ``clients`` and ``count`` is given.

    Example:
        >>> from lit_fed import Payload
        >>> trained, before = Payload({"w": torch.tensor([3.0, 4.0])}), Payload({"w": torch.zeros(2)})
        >>> noise = RandomUpdate(scale=2.0, clients=["a"])
        >>> sent, _ = noise.upload(Client("a", 0, 8, 0, 0, 0), trained, before, Payload())
        >>> sent.tensors["w"].norm()
        tensor(10.)
    """

    def __init__(
        self,
        scale: float = 1.0,
        clients: Sequence[str] | None = None,
        count: int | float | None = None,
        seed: int = 0,
        until: int | None = None,
    ) -> None:
        super().__init__(clients, count, seed, until)
        self.scale = require_positive("trainer.attachments RandomUpdate.scale", scale)

    def change(self, client: Client, changes: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """scale·‖θ_k − θ_g‖·u."""
        draw = np.random.default_rng([self.seed, client.round, client.index])
        noise = {
            name: torch.from_numpy(draw.standard_normal(tuple(change.shape)))
            for name, change in changes.items()
        }
        length = self.scale * _norm(changes) / (_norm(noise) or 1.0)
        return {name: length * one for name, one in noise.items()}


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float(one.square().sum()) for one in tensors.values()))
