"""The one resident module, which acts as each client and as the server in turn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_fed.client import Client
from lit_fed.federation.client.client_state import ClientState
from lit_fed.module import FederatedModule
from lit_fed.payload import Payload
from lit_fed.shards import whole


class ResidentModule:
    """Gives the resident module a client's or the server's state, and nobody else's.

    K clients share one model. Whoever comes next starts from the values the module was built with,
    so nothing of the one before is left, whatever a method forgets to overwrite. This costs one copy
    of what trains, not of the frozen base. What a download folds into the base stays there until the next
    one, which mostly folds the same.

    Args:
        module: The method, on its device, before it has trained.
        wrapped: The module in Fabric's wrapper, through which its steps are called. None: as it is.
        like: The resident module of which this one is a copy, whose built values are this one's as well.
    """

    def __init__(
        self, module: FederatedModule, wrapped: Any = None, like: ResidentModule | None = None
    ) -> None:
        self.module = module
        self.wrapped: Any = module if wrapped is None else wrapped
        self._live = _mutable(module)
        live = {id(tensor) for tensor in self._live}
        self._frozen = [p for p in module.parameters() if not p.requires_grad and id(p) not in live]
        self._built: list[Tensor] = (
            [tensor.detach().clone() for tensor in self._live] if like is None else like._built
        )

    def act_as_client(self, client: Client, state: ClientState, broadcast: Payload) -> None:
        """Be a client at the start of its round.

        Args:
            client: The client.
            state: What has lasted of it.
            broadcast: What it downloads.
        """
        self._reset(client)
        self.module.prepared = state.prepared or Payload()
        if state.rounds:
            self.module.load_private_state(state.private)
        self.module.download(broadcast)

    def act_as_server(self, broadcast: Payload, server: Payload | None) -> None:
        """Be the server with its last broadcast, which is also the global model.

        Args:
            broadcast: The last broadcast.
            server: What the server keeps; None before the first round is done.
        """
        self._reset(None)
        if server is not None:
            self.module.load_server_state(server)
        self.module.download(broadcast)

    def not_finite(self) -> str | None:
        """The name of a tensor that training can change and that holds NaN or infinity now; None if there is none."""
        bad = {id(t) for t in self._live if t.is_floating_point() and not _is_finite(t)}
        named = (*self.module.named_parameters(), *self.module.named_buffers())
        return next((name for name, tensor in named if id(tensor) in bad), None)

    def can_change(self, part: nn.Module) -> bool:
        """Whether training can change any tensor of a part of the module; not of a frozen teacher's model."""
        live = {id(tensor) for tensor in self._live}
        return any(id(tensor) in live for tensor in (*part.parameters(), *part.buffers()))

    def require_own(self, optimizer: Optimizer) -> None:
        """Check that an optimizer moves nothing of what all clients share: no copy of it is kept.

        Args:
            optimizer: A client's.

        Raises:
            ValueError: If it does.
        """
        moved = {id(p) for group in optimizer.param_groups for p in group["params"]}
        shared = {id(p) for p in self._frozen} & moved
        if shared:
            name = next(n for n, p in self.module.named_parameters() if id(p) in shared)
            raise ValueError(
                f"a client's optimizer is expected to move what {type(self.module).__name__} was built to train, "
                f"but has {name!r}, which was frozen and which all clients share"
            )

    def _reset(self, client: Client | None) -> None:
        with torch.no_grad():
            for live, built in zip(self._live, self._built, strict=True):
                live.copy_(built)
            for frozen in self._frozen:
                frozen.requires_grad_(False)
        self.module.zero_grad(set_to_none=True)
        self.module.prepared = Payload()
        self.module.act_as(client)


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(whole(tensor.detach())).all())


def _mutable(module: FederatedModule) -> list[Tensor]:
    """Whatever training can change.

    That is what requires a gradient in any stage, further adapters, which a client may train in its
    turn, and the method's own buffers.
    """
    module.act_as(None)  # a client before may have left something frozen
    mutable: dict[int, Tensor] = {}
    for stage in module.stages:
        module.start_stage(stage.name)
        mutable |= {id(p): p for p in module.parameters() if p.requires_grad}
    for backbone in module.backbones.values():
        for adapter in backbone.adapters[1:]:
            mutable |= {id(p): p for p in backbone.trainable(adapter).values()}
    inside = {id(b) for backbone in module.backbones.values() for b in backbone.buffers()}
    mutable |= {id(b): b for b in module.buffers() if id(b) not in inside}
    return list(mutable.values())
