from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    MambaConfig,
    MambaForCausalLM,
)

from lit_fed.backbones import Backbone, BottleneckConfig, CausalLM, SequenceClassifier

from .batches import batch_of, change, logits_of, loss_of
from .conftest import save_tokenizer

Models = Callable[..., str]

# The blocks of a layer that adapters come after, and where the layers are.
BLOCKS = {
    "bert": ("bert.encoder.layer", ("attention.output.dense", "output.dense")),
    "llama": ("model.layers", ("self_attn", "mlp")),
    "gpt2": ("transformer.h", ("attn", "mlp")),
}
KINDS = [("bert", SequenceClassifier), ("llama", CausalLM), ("gpt2", CausalLM)]
every_kind = pytest.mark.parametrize(("name", "kind"), KINDS)


def folder_of(tiny_model: Models, name: str, **settings: Any) -> str:
    """A checkpoint with a head, so that two models of it are alike."""
    saved = {"bert": "BertForSequenceClassification"}.get(name, "")
    return tiny_model(name, saved, **settings)


def plain(folder: str, kind: type[Backbone]) -> Any:
    auto = AutoModelForCausalLM if kind is CausalLM else AutoModelForSequenceClassification
    return auto.from_pretrained(folder).eval()


@torch.no_grad()
def plain_logits(model: Any, backbone: Backbone, batch: dict[str, Tensor]) -> Tensor:
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    logits: Tensor = model(**inputs).logits
    return logits[:, :-1] if isinstance(backbone, CausalLM) else logits


@every_kind
def test_only_adapters_and_head_are_trained_and_sent(
    tiny_model: Models, name: str, kind: Any
) -> None:
    backbone = kind(folder_of(tiny_model, name), peft=BottleneckConfig(width=4))
    layers, blocks = BLOCKS[name]
    expected = {
        f"base_model.model.{layers}.{i}.{block}.bottleneck_{way}.{part}"
        for i in range(2)
        for block in blocks
        for way in ("down", "up")
        for part in ("weight", "bias")
    }
    head = {f"base_model.model.classifier.{part}" for part in ("weight", "bias")}
    trainable = backbone.trainable()
    assert trainable.keys() == expected | (head if kind is SequenceClassifier else set())
    assert {id(p) for p in backbone.parameters() if p.requires_grad} == {
        id(p) for p in trainable.values()
    }
    # 2 layers of 2 blocks, d 16 and w 4
    assert sum(trainable[n].numel() for n in expected) == 4 * (2 * 16 * 4 + 16 + 4)


@every_kind
def test_first_the_model_is_as_it_was(tiny_model: Models, name: str, kind: Any) -> None:
    folder = folder_of(tiny_model, name)
    backbone = kind(folder, peft=BottleneckConfig())
    batch = batch_of(backbone)
    assert torch.equal(
        logits_of(backbone, batch), plain_logits(plain(folder, kind), backbone, batch)
    )


@every_kind
@pytest.mark.parametrize("non_linearity", ["gelu", "relu", "silu", "tanh"])
def test_it_is_the_formula(tiny_model: Models, name: str, kind: Any, non_linearity: Any) -> None:
    """The same computed by hooks on a model that peft has not seen."""
    folder = folder_of(tiny_model, name)
    backbone = kind(folder, peft=BottleneckConfig(width=3, non_linearity=non_linearity))
    change(backbone)
    state = {
        k.removeprefix("base_model.model."): v.detach() for k, v in backbone.trainable().items()
    }
    between = {"gelu": nn.GELU(), "relu": nn.ReLU(), "silu": nn.SiLU(), "tanh": nn.Tanh()}
    model = plain(folder, kind)

    def adapter(place: str) -> Callable[..., Any]:
        def adapted(module: nn.Module, args: Any, output: Any) -> Any:
            h = output[0] if isinstance(output, tuple) else output
            down = h @ state[f"{place}.bottleneck_down.weight"].T
            inner = between[non_linearity](down + state[f"{place}.bottleneck_down.bias"])
            up = inner @ state[f"{place}.bottleneck_up.weight"].T
            h = h + up + state[f"{place}.bottleneck_up.bias"]
            return (h, *output[1:]) if isinstance(output, tuple) else h

        return adapted

    layers, blocks = BLOCKS[name]
    for place in (f"{layers}.{i}.{block}" for i in range(2) for block in blocks):
        model.get_submodule(place).register_forward_hook(adapter(place))
    if kind is SequenceClassifier:
        model.classifier.load_state_dict(
            {part: state[f"classifier.{part}"] for part in ("weight", "bias")}
        )
    batch = batch_of(backbone)
    torch.testing.assert_close(
        logits_of(backbone, batch), plain_logits(model, backbone, batch), rtol=1e-4, atol=1e-5
    )


@every_kind
def test_saved_adapters_load_with_plain_peft(
    tiny_model: Models, tmp_path: Path, name: str, kind: Any
) -> None:
    folder = folder_of(tiny_model, name)
    backbone = kind(folder, peft=BottleneckConfig(width=4, non_linearity="relu"))
    change(backbone)
    backbone.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "BOTTLENECK"
    loaded = PeftModel.from_pretrained(plain(folder, kind), str(tmp_path)).eval()
    config = loaded.peft_config["default"]
    assert (type(config), config.width, config.non_linearity) == (BottleneckConfig, 4, "relu")
    batch = batch_of(backbone)
    torch.testing.assert_close(logits_of(backbone, batch), plain_logits(loaded, backbone, batch))

    other = kind(folder, peft=BottleneckConfig(width=4, non_linearity="relu"))
    other.load_trainable(backbone.trainable())
    torch.testing.assert_close(logits_of(other, batch), logits_of(backbone, batch))


@every_kind
def test_it_can_be_taken_off_but_not_merged(tiny_model: Models, name: str, kind: Any) -> None:
    folder = folder_of(tiny_model, name)
    backbone = kind(folder, peft=BottleneckConfig())
    change(backbone)
    for merge in (backbone.model.merge_and_unload, backbone.model.merge_adapter):
        with pytest.raises(ValueError, match=r"not linear and cannot be merged .* `unload`"):
            merge()
    batch = batch_of(backbone)
    base = plain_logits(plain(folder, kind), backbone, batch)
    backbone.eval()
    with backbone.model.disable_adapter():
        torch.testing.assert_close(logits_of(backbone, batch), base)
    assert not torch.equal(logits_of(backbone, batch), base)
    unloaded = backbone.model.unload()
    if kind is SequenceClassifier:  # peft keeps the head that was trained
        unloaded.classifier = plain(folder, kind).classifier
    torch.testing.assert_close(plain_logits(unloaded, backbone, batch), base)
    assert not any("bottleneck" in key for key in unloaded.state_dict())


def test_a_second_adapter_on_the_same_base(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("gpt2"), peft=BottleneckConfig(width=4))
    backbone.add_adapter("second")
    assert backbone.trainable("second").keys() == backbone.trainable().keys()
    assert not any(p.requires_grad for p in backbone.trainable("second").values())
    change(backbone, "default", seed=1)
    batch = batch_of(backbone)
    first = logits_of(backbone, batch)

    # An adapter of zeros adds nothing, and two are the same in either order.
    backbone.activate("default", "second")
    torch.testing.assert_close(logits_of(backbone, batch), first)
    change(backbone, "second", seed=2)
    both = logits_of(backbone, batch)
    assert not torch.allclose(both, first)
    backbone.activate("second", "default")
    torch.testing.assert_close(logits_of(backbone, batch), both)

    backbone.activate("second")
    loss_of(backbone, batch).backward()
    assert all(p.grad is not None for p in backbone.trainable("second").values())
    assert all(p.grad is None for p in backbone.trainable().values())
    with backbone.using("default"):
        torch.testing.assert_close(logits_of(backbone, batch), first)


def test_modules_that_are_named_and_norms_as_in_the_paper(tiny_model: Models) -> None:
    config = BottleneckConfig(
        width=2, target_modules=["intermediate.dense"], modules_to_save=["LayerNorm"]
    )
    backbone = SequenceClassifier(tiny_model("bert"), peft=config)
    names = backbone.trainable().keys()
    assert {n.split(".")[-4] for n in names if "bottleneck" in n} == {"intermediate"}
    assert sum(n.endswith("LayerNorm.weight") for n in names) == 5
    # as wide as that layer
    up = next(p for n, p in backbone.trainable().items() if n.endswith("bottleneck_up.weight"))
    assert up.shape == (32, 2)
    loss_of(backbone, batch_of(backbone)).backward()


@pytest.mark.parametrize("name", ["distilbert", "gpt_neox", "bloom", "t5"])
def test_other_architectures(tiny_model: Models, name: str) -> None:
    backbone = SequenceClassifier(tiny_model(name), peft=BottleneckConfig(width=2))
    change(backbone)
    loss_of(backbone, batch_of(backbone)).backward()
    adapters = {n: p for n, p in backbone.trainable().items() if "bottleneck" in n}
    # of a T5 two layers of two blocks and two of three
    assert len(adapters) == 4 * (10 if name == "t5" else 4)
    assert all(p.grad is not None and p.grad.any() for p in adapters.values())


def test_half_precision_keeps_adapters_of_float32(tiny_model: Models) -> None:
    backbone = CausalLM(tiny_model("llama"), peft=BottleneckConfig(), dtype="bfloat16")
    assert {p.dtype for p in backbone.trainable().values()} == {torch.float32}
    loss_of(backbone, batch_of(backbone)).backward()
    assert backbone(batch_of(backbone)).logits.dtype == torch.bfloat16


def test_gradient_checkpointing_gives_the_same_gradients(tiny_model: Models) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = CausalLM(
            tiny_model("llama"), peft=BottleneckConfig(), gradient_checkpointing=checkpointing
        )
        change(backbone)
        loss_of(backbone, batch_of(backbone)).backward()
        gradients.append([p.grad for p in backbone.trainable().values()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 0}, "`model.backbone.peft.width` is expected to be at least 1, but got 0"),
        (
            {"non_linearity": "sine"},
            "`model.backbone.peft.non_linearity` is expected to be one of gelu, relu, silu, tanh, "
            "but got 'sine'",
        ),
    ],
)
def test_wrong_settings(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="expected") as raised:
        BottleneckConfig(**settings)
    assert str(raised.value) == said


def test_modules_that_cannot_be_found_or_adapted(tiny_model: Models, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`model\.backbone\.peft\.target_modules` .* got puller"):
        SequenceClassifier(tiny_model("bert"), peft=BottleneckConfig(target_modules=["puller"]))
    with pytest.raises(ValueError, match=r"`model\.backbone\.peft`: module .*dropout has no par"):
        SequenceClassifier(tiny_model("bert"), peft=BottleneckConfig(target_modules=["dropout"]))
    mamba = MambaForCausalLM(
        MambaConfig(vocab_size=30, hidden_size=8, state_size=2, num_hidden_layers=1)
    )
    mamba.save_pretrained(tmp_path)
    save_tokenizer(tmp_path, pads=True, ends=False)
    with pytest.raises(ValueError, match="MambaForCausalLM is unknown"):
        get_peft_model(mamba, BottleneckConfig())
    with pytest.raises(ValueError, match=r"peft\.target_modules` .* null; .* in_proj"):
        CausalLM(str(tmp_path), peft=BottleneckConfig())
    named = CausalLM(str(tmp_path), peft=BottleneckConfig(target_modules=["mixer"]))
    change(named)
    loss_of(named, batch_of(named)).backward()
