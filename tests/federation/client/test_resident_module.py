"""What one client leaves in the shared module is not there for the next, whatever the method forgets."""

from __future__ import annotations

from pathlib import Path

import torch

from lit_fed import Payload
from lit_fed.client import Client
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.client.resident_module import ResidentModule
from tests.federation.toy import toy_module


def test_whoever_comes_next_starts_from_what_was_built(toy_model: Path) -> None:
    """Also where neither a broadcast nor a private state brings the values back."""
    module = toy_module(toy_model)
    module.download = lambda broadcast: None  # type: ignore[method-assign]  # a method that forgets it
    trained = module.backbone.trainable()
    built = {name: parameter.detach().clone() for name, parameter in trained.items()}
    frozen = next(p for p in module.parameters() if not p.requires_grad)
    resident = ResidentModule(module)
    first, second = (Client(f"client-{n}", n, 3, round=0, rounds=0, steps=0) for n in range(2))
    for become in (
        lambda: resident.act_as_client(second, ClientState(), Payload()),
        lambda: resident.act_as_server(Payload(), None),
    ):
        resident.act_as_client(first, ClientState(), Payload())
        with torch.no_grad():
            for parameter in trained.values():
                parameter += 1
        frozen.requires_grad_(True)
        become()
        assert all(torch.equal(parameter, built[name]) for name, parameter in trained.items())
        assert not frozen.requires_grad
