"""Client groups: which clients train which backbone, or ask which black box."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lightning.pytorch.cli import OptimizerCallable
from torch import nn

from lit_fed.backbones import Backbone, BlackBox, TextGenerator
from lit_fed.client import Client
from lit_fed.limits import require_instance
from lit_fed.suggestion import did_you_mean


@dataclass
class ClientGroup:
    """Clients that have a backbone of their own, which is in memory once for all of them.

    Attributes:
        backbone: The model, its tokenizer and its trainable part; or a black box, which answers and trains nothing,
            such as an :class:`~lit_fed.backbones.HTTPGenerator`.
        ids: The clients' ids.
        optimizer: Makes their optimizer. None: the method's.
    """

    backbone: Backbone | TextGenerator
    ids: list[str]
    optimizer: OptimizerCallable | None = None


def first_backbone(
    backbone: Backbone | None, groups: Sequence[ClientGroup] | None
) -> Backbone | None:
    """The backbone of clients that no group names: the one that is given, else that of the first group that trains."""
    if backbone is not None:
        return backbone
    own = (group.backbone for group in groups or () if isinstance(group.backbone, Backbone))
    return next(own, None)


class ClientModels(nn.Module):
    """The backbones of all clients, and whose is which.

    Args:
        backbone: Of all clients that no group names.
        optimizer: Their optimizer.
        groups: The other clients.

    Raises:
        TypeError: If a group has no backbone, or something else than a function that makes an optimizer.
        ValueError: If a group names no client, a client is in two groups, or a black box has an optimizer.
    """

    def __init__(
        self, backbone: Backbone, optimizer: OptimizerCallable, groups: Sequence[ClientGroup]
    ) -> None:
        super().__init__()
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

    def of(self, client: Client | None) -> tuple[Backbone, OptimizerCallable]:
        """A client's backbone, or the black box in its place, and what makes its optimizer.

        Of the server they are those of clients that no group names.
        """
        number = 0 if client is None else self._number.get(client.id, 0)
        backbone: Backbone = self.backbones[number]  # type: ignore[assignment]  # or stands for one
        return backbone, self._optimizers[number]

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
