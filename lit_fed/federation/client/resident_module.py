"""Turns the one resident module into a client or into the server."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_fed.client import Client
from lit_fed.federation.state import ClientState, FederationState
from lit_fed.module import FederatedModule
from lit_fed.payload import Payload


class ResidentModule:
    """Gives the resident module a client's or the server's state, and nobody else's.

    K clients share one model. Whoever comes next starts from the values the module was built with,
    so nothing of the one before is left, whatever a method forgets to overwrite. This costs one copy
    of what trains, not of the frozen base.

    Args:
        module: The method, on its device, before it has trained.
        like: The resident module of which this one is a copy, whose built values are this one's as well.
    """

    def __init__(self, module: FederatedModule, like: ResidentModule | None = None) -> None:
        self.module = module
        self._live = _mutable(module)
        self._built: list[Tensor] = (
            [tensor.detach().clone() for tensor in self._live] if like is None else like._built
        )

    def act_as_client(self, client: Client, state: ClientState | None, broadcast: Payload) -> None:
        """Be a client at the start of its round, or new if it has no state."""
        self._reset(client)
        if state is not None and state.rounds:
            self.module.load_private_state(state.private)
        self.module.download(broadcast)

    def act_as_server(self, state: FederationState) -> None:
        """Be the server with its last broadcast, which is also the global model."""
        self._reset(None)
        if state.round:
            self.module.load_server_state(state.server)
        self.module.download(state.broadcast)

    def _reset(self, client: Client | None) -> None:
        with torch.no_grad():
            for live, built in zip(self._live, self._built, strict=True):
                live.copy_(built)
        self.module.zero_grad(set_to_none=True)
        self.module.act_as(client)


def _mutable(module: FederatedModule) -> list[Tensor]:
    """Whatever training can change.

    That is what requires a gradient in any stage, further adapters, which a client may train in its
    turn, and the method's own buffers.
    """
    module.act_as(None)  # a client before may have left something frozen
    mutable: dict[int, Tensor] = {}
    for stage in module.stages:
        module.start_stage(stage)
        mutable |= {id(p): p for p in module.parameters() if p.requires_grad}
    inside: set[int] = set()
    for backbone in module.backbones.values():
        for adapter in backbone.adapters[1:]:
            mutable |= {id(p): p for p in backbone.trainable(adapter).values()}
        inside |= {id(buffer) for buffer in backbone.buffers()}
    mutable |= {id(b): b for b in module.buffers() if id(b) not in inside}
    return list(mutable.values())
