"""What the methods share whose clients keep models of their own: who trains which, and what stays with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from torch import nn

from lit_fed.backbones import Backbone, BlackBox
from lit_fed.client import Client
from lit_fed.methods.semantic_consensus.client_group import ClientGroup, first_backbone
from lit_fed.methods.semantic_consensus.client_models import ClientModels
from lit_fed.module import FederatedModule
from lit_fed.payload import Payload

_OWN: Final = "own"


class OwnModelsMixin(FederatedModule):
    """Gives a method clients that keep the models that they train, which may differ.

    A backbone is in memory once for all clients of its group, and frozen weights that several have alike once for all
    of them. What it trains is each client's private state.

    Args:
        backbone: The model of all clients that ``clients`` does not name. None: that of the first group; without
            groups the embedded classifier.
        clients: Groups of clients with a backbone of their own, or with a black box, which answers and trains nothing.
        take_turns: Whether one backbone at a time is on the device, while the others wait on the CPU: for those that
            do not fit together. It is for clients that run one after the other.
        **kwargs: For the next class.

    Raises:
        TypeError: If a group has no backbone.
        ValueError: If a group names no client, a client is in two groups, or a black box has an optimizer.
    """

    has_global_model = False

    def __init__(
        self,
        backbone: Backbone | None = None,
        clients: list[ClientGroup] | None = None,
        *,
        take_turns: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone=first_backbone(backbone, clients), **kwargs)
        self.clients = clients or []
        self.take_turns = take_turns
        self.models = ClientModels(self.backbone, self.make_optimizer, self.clients, take_turns)

    def check_clients(self, clients: Collection[str], in_round: int) -> None:
        """Refuse groups of clients that are not there."""
        super().check_clients(clients, in_round)
        self.models.check(clients)

    def initial_weights(self) -> Payload:
        """Server: none, since clients keep theirs."""
        return Payload()

    def act_as(self, client: Client | None) -> None:
        """Be a client, with its backbone and optimizer, or the server."""
        super().act_as(client)
        self.backbone, self.make_optimizer = self.models.of(client)
        self.stages = () if isinstance(self.backbone, BlackBox) else type(self).stages
        self.models.activate(self.backbone, self.device)

    @property
    def backbones(self) -> Mapping[str, Backbone]:
        """The backbones by the settings that give them, each once."""
        return self.models.named()

    @property
    def black_boxes(self) -> Mapping[str, BlackBox]:
        """What answers in the place of backbones, by the settings that give it."""
        return self.models.black_boxes()

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """What the client's backbone trains, and no other client's."""
        own = {id(parameter) for parameter in self.backbone.parameters()}
        others = {id(p) for b in self.backbones.values() for p in b.parameters()} - own
        return {n: p for n, p in super().trained_parameters().items() if id(p) not in others}

    def private_state(self) -> Payload:
        """Client: what its backbone trains, and what stays with it of the method."""
        own = super().private_state()
        return Payload(self.backbone.trainable()).with_parts({_OWN: own} if own else {})

    def load_private_state(self, state: Payload) -> None:
        """Client: take it back."""
        self.backbone.load_trainable(state.tensors)
        super().load_private_state(state.parts.get(_OWN, Payload()))
