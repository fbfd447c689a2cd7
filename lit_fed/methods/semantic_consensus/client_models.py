"""Client models: the backbones of clients that have different ones, and whose is which."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Self

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from lit_fed.backbones import Backbone, BlackBox, TextGenerator
from lit_fed.backbones.master_weights import Change
from lit_fed.client import Client
from lit_fed.limits import require_instance
from lit_fed.methods.semantic_consensus.client_group import ClientGroup
from lit_fed.methods.semantic_consensus.shared_base import share_base
from lit_fed.suggestion import did_you_mean


class ClientModels(nn.Module):
    """The backbones of all clients, and whose is which.

    Args:
        backbone: Of all clients that no group names.
        optimizer: Their optimizer.
        groups: The other clients.
        take_turns: Whether one backbone at a time is on the device, while the others wait on the CPU.

    Raises:
        TypeError: If a group has no backbone, or something else than a function that makes an optimizer.
        ValueError: If a group names no client, a client is in two groups, or a black box has an optimizer.
    """

    def __init__(
        self,
        backbone: Backbone,
        optimizer: OptimizerCallable,
        groups: Sequence[ClientGroup],
        take_turns: bool,
    ) -> None:
        super().__init__()
        self.take_turns = take_turns
        self.active = (backbone,)  # in a tuple, so that it has no second name here
        self.backbones = nn.ModuleList([backbone])
        self._optimizers = [optimizer]
        self._number: dict[str, int] = {}
        for place, group in enumerate(groups):
            where = f"model.clients.{place}"
            if group.backbone is None:
                raise TypeError(f"`{where}.backbone` is expected to be a Backbone, but got none")
            if not isinstance(group.backbone, TextGenerator):
                require_instance(f"{where}.backbone", group.backbone, Backbone)
            if not group.ids:
                raise ValueError(f"`{where}.ids` is expected to name clients, but is empty")
            for id in group.ids:
                if id in self._number:
                    raise ValueError(
                        f"`model.clients` are expected to name each client once, but {id!r} is in `model.clients."
                        f"{self._number[id] - 1}` and `{where}`"
                    )
                self._number[id] = place + 1
            if isinstance(group.backbone, Backbone):
                self.backbones.append(group.backbone)
            else:
                if group.optimizer is not None:
                    raise ValueError(
                        f"`{where}.optimizer` is expected to be left out where `{where}.backbone` is a black box, "
                        f"which trains nothing: {group.backbone!r}"
                    )
                self.backbones.append(BlackBox(group.backbone, backbone))
            self._optimizers.append(group.optimizer or optimizer)
        share_base(list(self.named().values()))

    def of(self, client: Client | None) -> tuple[Backbone, OptimizerCallable]:
        """A client's backbone, or the black box in its place, and what makes its optimizer.

        Of the server they are those of clients that no group names.
        """
        number = 0 if client is None else self._number.get(client.id, 0)
        backbone: Backbone = self.backbones[number]  # type: ignore[assignment]  # or stands for one
        return backbone, self._optimizers[number]

    def trains(self, client: str) -> bool:
        """Whether a client trains a backbone, and does not ask a black box.

        Args:
            client: Its id.
        """
        return not isinstance(self.backbones[self._number.get(client, 0)], BlackBox)

    def activate(self, backbone: Backbone, device: torch.device) -> None:
        """Bring a backbone to the device, where they take turns, after the others have left it.

        Parameters stay the same objects, so that whoever holds them sees them move.

        Args:
            backbone: Whose turn it is.
            device: The device.
        """
        self.active = (backbone,)
        if self.take_turns:
            for other in self.named().values():
                if other is not backbone:
                    other.to("cpu")
            backbone.to(device)

    def _apply(self, fn: Change, recurse: bool = True) -> Self:
        """Move or convert the backbones; those that wait are converted where they are."""
        if not self.take_turns:
            moved: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
            return moved

        def convert(tensor: Tensor) -> Tensor:
            return tensor.to(fn(tensor.new_empty(0)).dtype)

        for backbone in self.named().values():
            backbone._apply(fn if backbone is self.active[0] else convert, recurse)
        return self

    def named(self) -> dict[str, Backbone]:
        """The backbones by the settings that give them, each once."""
        found: dict[Backbone, str] = {}
        for name, backbone in self._settings().items():
            if isinstance(backbone, Backbone):
                found.setdefault(backbone, name)
        return {name: backbone for backbone, name in found.items()}

    def black_boxes(self) -> dict[str, BlackBox]:
        """The black boxes by the settings that give them."""
        every = self._settings().items()
        return {name: backbone for name, backbone in every if isinstance(backbone, BlackBox)}

    def _settings(self) -> dict[str, nn.Module]:
        places = enumerate(self.backbones)
        return {f"clients.{n - 1}.backbone" if n else "backbone": one for n, one in places}

    def check(self, clients: Collection[str]) -> None:
        """Refuse ids that no client has.

        Args:
            clients: Ids of all clients.

        Raises:
            ValueError: If there is one.
        """
        for id, number in self._number.items():
            if id not in clients:
                raise ValueError(
                    f"`model.clients.{number - 1}.ids` is expected to name clients, but got {id!r}"
                    f"{did_you_mean(id, clients)}"
                )
