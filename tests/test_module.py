"""What a module says of its backbones, and what follows from them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lit_fed import FedAvg
from lit_fed.backbones import Backbone
from lit_fed.client import Client
from lit_fed.federation.client.resident_module import ResidentModule
from tests.federation.protocol_methods import Answers
from tests.federation.toy import save_toy_model, toy_backbone


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy") / "model", width=16)


class Pair(nn.Module):
    """A second backbone with something of the method's own beside it."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.inner = backbone
        self.scale = nn.Linear(2, 2)
        self.register_buffer("count", torch.zeros(()))


class WithTwo(FedAvg):
    def __init__(self, first: Backbone, second: Backbone) -> None:
        super().__init__(first)
        self.pair = Pair(second)
        self.head = nn.Linear(3, 1)


def client(index: int) -> Client:
    given: dict[str, Any] = {"num_samples": 1, "round": 0, "rounds": 0, "steps": 0}
    if "rows" in Client.__dataclass_fields__:
        given["rows"] = None
    return Client(f"client-{index}", index, **given)


def test_backbones_are_named_once(model: Path) -> None:
    first, second = toy_backbone(model), toy_backbone(model)
    assert dict(FedAvg(first).backbones) == {"backbone": first}
    assert dict(WithTwo(first, second).backbones) == {"backbone": first, "pair.inner": second}
    several = Answers([first, second])
    for index in (0, 1):
        several.act_as(client(index))
        assert dict(several.backbones) == {"models.0": first, "models.1": second}


def test_a_second_backbone_is_neither_private_nor_reset_whole(model: Path) -> None:
    module = WithTwo(toy_backbone(model), toy_backbone(model))
    own = ["head.bias", "head.weight", "pair.count", "pair.scale.bias", "pair.scale.weight"]
    assert sorted(module.private_state().tensors) == own
    live = {id(tensor) for tensor in ResidentModule(module)._live}
    for backbone in module.backbones.values():
        assert not live & {id(buffer) for buffer in backbone.buffers()}
        assert not live & {id(p) for p in backbone.parameters() if not p.requires_grad}
    assert {id(module.pair.count), id(module.head.weight)} <= live


def test_a_private_state_comes_back(model: Path) -> None:
    module = WithTwo(toy_backbone(model), toy_backbone(model))
    kept = module.private_state()
    with torch.no_grad():
        module.pair.count += 1
        module.head.weight += 1
    assert module.private_state() != kept
    module.load_private_state(kept)
    assert module.private_state() == kept
    assert not FedAvg(toy_backbone(model)).private_state()
