"""The attack that stays where honest clients do not write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lit_fed.attacks.update_attack import UpdateAttack
from lit_fed.client import Client
from lit_fed.limits import require_inner_fraction
from lit_fed.payload import Payload


class Neurotoxin(UpdateAttack):
    """Sends its change without the coordinates that the global model has moved most, so that they are not written over.

    Zhang et al., "Neurotoxin: Durable Backdoors in Federated Learning", 2022, Algorithm 1,
    https://arxiv.org/abs/2206.10341: of all coordinates together, the top ``ratio`` of ``|θ_g^t − θ_g^{t−1}|`` are set
    to 0 in θ_k − θ_g^t. There the gradient of each step is projected, here the client's change in the end, which needs
    nothing of its training. θ_g^{t−1} is what the client downloaded when it last took part; in its first round it sends
    its change as it is. It says nothing of what is trained: poison the rows of the same clients beside it.

    Args:
        ratio: The share of all coordinates that are left alone, above 0 and below 1.
        clients: Ids of the malicious clients.
        count: How many are, drawn by the seed: an integer is a count, a float a share.
        seed: Of the draw.
        until: Rounds in which the attack lasts, from the first on. None: all.

    Raises:
        ValueError: If ``ratio`` is out of range, or not exactly one of ``clients`` and ``count`` is given.

    Example:
        >>> from lit_fed import Payload
        >>> attack, client = Neurotoxin(ratio=0.25, clients=["a"]), Client("a", 0, 8, 1, 1, 8)
        >>> before, now = torch.zeros(4), torch.tensor([0.0, 3.0, 1.0, 0.0])
        >>> sent, _ = attack.upload(client, Payload({"w": now + 1}), Payload({"w": now}), Payload({"w": before}))
        >>> sent.tensors["w"]
        tensor([1., 3., 2., 1.])
    """

    def __init__(
        self,
        ratio: float = 0.01,
        clients: Sequence[str] | None = None,
        count: int | float | None = None,
        seed: int = 0,
        until: int | None = None,
    ) -> None:
        super().__init__(clients, count, seed, until)
        self.ratio = require_inner_fraction("trainer.attachments Neurotoxin.ratio", ratio)

    def changed(
        self,
        client: Client,
        changes: Mapping[str, Tensor],
        broadcast: Payload,
        memory: Payload,
    ) -> tuple[Mapping[str, Tensor], Payload]:
        """The change where the global model has moved little since it was sent last, and the global model now."""
        starts = {name: broadcast.tensors[name] for name in changes}
        moved = {
            name: (start.double() - memory.tensors[name].double()).abs()
            for name, start in starts.items()
            if name in memory.tensors and memory.tensors[name].shape == start.shape
        }
        sent = dict(self.change(client, changes))
        for name, quiet in least_moved(moved, self.ratio).items():
            sent[name] = torch.where(quiet, sent[name], 0.0)
        # what a round does not send stays remembered, as where RoLoRA's factors take turns
        return sent, Payload({**memory.tensors, **starts})

    def change(self, client: Client, changes: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The change as it is, before it is projected."""
        return changes


def least_moved(moved: Mapping[str, Tensor], ratio: float) -> dict[str, Tensor]:
    """Where tensors have moved least: all but the top share of all coordinates together.

    Args:
        moved: How far each coordinate has moved, at least 0, by the tensors' names.
        ratio: The share that is left out; of n coordinates round(ratio·n), at least one, the first ones among equals.

    Returns:
        Masks by the tensors' names, true where little has moved.

    Example:
        >>> least_moved({"a": torch.tensor([1.0, 5.0]), "b": torch.tensor([[2.0], [3.0]])}, 0.5)
        {'a': tensor([ True, False]), 'b': tensor([[ True],
                [False]])}
    """
    if not moved:
        return {}
    flat = torch.cat([one.flatten() for one in moved.values()])
    most = max(1, round(ratio * len(flat)))
    quiet = torch.ones(len(flat), dtype=torch.bool, device=flat.device)
    quiet[flat.argsort(descending=True, stable=True)[:most]] = False
    masks = quiet.split([one.numel() for one in moved.values()])
    return {
        name: mask.reshape(one.shape)
        for (name, one), mask in zip(moved.items(), masks, strict=True)
    }
