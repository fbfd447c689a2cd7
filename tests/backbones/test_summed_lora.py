"""Several LoRAs computed as one, beside peft's own sum of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora.layer import Linear
from torch import Tensor

from lit_fed.backbones import SequenceClassifier
from lit_fed.backbones.summed_lora import SummedLora

BATCH = {"input_ids": torch.tensor([[2, 5, 9, 14, 3], [2, 6, 7, 11, 3]])}


def classifier(model: Path, **settings: Any) -> SequenceClassifier:
    """Two adapters of other ranks and scales that are active, all trained a little."""
    torch.manual_seed(0)
    backbone = SequenceClassifier(str(model), peft=LoraConfig(r=4, lora_alpha=8, **settings))
    backbone.add_adapter("private", LoraConfig(r=3, lora_alpha=5, **settings), head=False)
    backbone.activate("default", "private")
    with torch.no_grad():
        for adapter in backbone.adapters:
            for parameter in backbone.trainable(adapter).values():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout) and module.p == 0.1:  # the model's own
            module.p = 0.0
    return backbone.double().train()


def kinds(backbone: SequenceClassifier) -> set[type]:
    return {type(m) for m in backbone.modules() if isinstance(m, Linear)}


def results(backbone: SequenceClassifier) -> Iterator[Tensor]:
    """The logits, and the gradients of what trains."""
    logits = backbone(BATCH).logits
    yield logits.detach()
    trained = [p for p in backbone.parameters() if p.requires_grad]
    yield from torch.autograd.grad(logits.square().sum(), trained)


def as_peft(backbone: SequenceClassifier) -> None:
    for module in backbone.modules():
        if type(module) is SummedLora:
            module.__class__ = Linear


@pytest.mark.parametrize("trained", ["default", "private"])
def test_it_computes_what_peft_does(trained: str, toy_model: Path) -> None:
    backbone = classifier(toy_model)
    backbone.train_adapter(trained)
    assert kinds(backbone) == {SummedLora}
    ours = list(results(backbone))
    as_peft(backbone)
    theirs = list(results(backbone))
    assert len(ours) == len(theirs) > 4
    assert not all(map(torch.equal, ours, theirs))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_one_adapter_alone_is_computed_by_peft(toy_model: Path) -> None:
    backbone = classifier(toy_model)
    with backbone.using("private"):
        assert kinds(backbone) == {Linear}
    assert kinds(backbone) == {SummedLora}
    backbone.activate("default")
    assert kinds(backbone) == {Linear}


@pytest.mark.parametrize("settings", [{"lora_dropout": 0.5}, {"lora_bias": True}, {}])
def test_what_does_not_add_up_and_an_evaluation_are_left_to_peft(
    settings: dict[str, Any], toy_model: Path
) -> None:
    backbone = classifier(toy_model, **settings)
    if not settings:
        backbone.eval()
    torch.manual_seed(1)
    ours = list(results(backbone))
    as_peft(backbone)
    torch.manual_seed(1)
    assert all(map(torch.equal, ours, results(backbone)))
