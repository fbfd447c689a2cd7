from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from lit_fed.backbones import Backbone, BitFitConfig, CausalLM, SequenceClassifier

from .batches import batch_of, change, logits_of, loss_of

Models = Callable[..., str]

# No dropout, so that two models are trained alike; a Llama has biases if it is told to.
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
KINDS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "bert": (SequenceClassifier, "BertForSequenceClassification", STILL),
    "gpt2": (CausalLM, "", {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
    "llama": (CausalLM, "", {"attention_bias": True, "mlp_bias": True}),
}
every_kind = pytest.mark.parametrize("name", KINDS)


def folder_of(tiny_model: Models, name: str) -> str:
    _, saved, settings = KINDS[name]
    return tiny_model(name, saved, **settings)


def plain(tiny_model: Models, name: str) -> Any:
    classifies = KINDS[name][0] is SequenceClassifier
    auto = AutoModelForSequenceClassification if classifies else AutoModelForCausalLM
    return auto.from_pretrained(folder_of(tiny_model, name)).eval()


def build(tiny_model: Models, name: str, **settings: Any) -> Backbone:
    made: Backbone = KINDS[name][0](folder_of(tiny_model, name), peft=BitFitConfig(**settings))
    return made


def plain_logits(model: Any, backbone: Backbone, batch: dict[str, Tensor]) -> Tensor:
    logits: Tensor = model(**{k: batch[k] for k in ("input_ids", "attention_mask")}).logits
    return logits[:, :-1] if isinstance(backbone, CausalLM) else logits


def biases_and_head(model: Any) -> dict[str, torch.nn.Parameter]:
    """Those of a model that peft has not seen, by their names in the adapter."""
    found = {}
    for name, parameter in model.named_parameters():
        if name.startswith("classifier."):
            found[f"base_model.model.{name}"] = parameter
        elif name.endswith(".bias"):
            found[f"base_model.model.{name.removesuffix('bias')}bitfit_bias"] = parameter
    return found


@every_kind
def test_only_biases_and_head_are_trained_and_sent(tiny_model: Models, name: str) -> None:
    backbone = build(tiny_model, name)
    expected = biases_and_head(plain(tiny_model, name))
    trainable = backbone.trainable()
    assert trainable.keys() == expected.keys()
    assert all(trainable[n].shape == p.shape for n, p in expected.items())
    assert {id(p) for p in backbone.parameters() if p.requires_grad} == {
        id(p) for p in trainable.values()
    }


@every_kind
def test_it_trains_like_the_models_own_biases(tiny_model: Models, name: str) -> None:
    """A plain model of which all but biases and head are frozen ends at the same weights."""
    backbone = build(tiny_model, name)
    model = plain(tiny_model, name).train()
    own = biases_and_head(model.requires_grad_(False))
    before = {n: p.detach().clone() for n, p in own.items()}
    for parameter in own.values():
        parameter.requires_grad_(True)
    batch = batch_of(backbone)
    prediction = backbone(batch)
    torch.testing.assert_close(prediction.logits, plain_logits(model, backbone, batch))

    optimizers = [torch.optim.SGD(p, lr=0.1) for p in (backbone.trainable().values(), own.values())]
    for _ in range(3):
        loss_of(backbone, batch).backward()
        logits = plain_logits(model, backbone, batch)[prediction.mask]
        torch.nn.functional.cross_entropy(logits, prediction.targets[prediction.mask]).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(
        logits_of(backbone, batch), plain_logits(model.eval(), backbone, batch)
    )
    for n, parameter in backbone.trainable().items():
        start = before[n] if n.endswith("bitfit_bias") else 0
        torch.testing.assert_close(parameter + start, own[n], rtol=1e-4, atol=1e-6)
        assert n.endswith("key.bitfit_bias") or not torch.equal(own[n], before[n])


@every_kind
def test_saved_adapters_load_with_plain_peft(tiny_model: Models, tmp_path: Path, name: str) -> None:
    backbone = build(tiny_model, name)
    change(backbone)
    backbone.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "BITFIT"
    loaded = PeftModel.from_pretrained(plain(tiny_model, name), str(tmp_path)).eval()
    batch = batch_of(backbone)
    torch.testing.assert_close(logits_of(backbone, batch), plain_logits(loaded, backbone, batch))

    other = build(tiny_model, name)
    other.load_trainable(backbone.trainable())
    torch.testing.assert_close(logits_of(other, batch), logits_of(backbone, batch))


@every_kind
def test_merged_it_is_a_plain_model(tiny_model: Models, tmp_path: Path, name: str) -> None:
    backbone = build(tiny_model, name)
    change(backbone)
    batch = batch_of(backbone)
    expected = logits_of(backbone, batch)
    merged = backbone.model.merge_and_unload(safe_merge=True).eval()
    assert merged.state_dict().keys() == plain(tiny_model, name).state_dict().keys()
    merged.save_pretrained(tmp_path)
    again = type(merged).from_pretrained(tmp_path).eval()
    torch.testing.assert_close(plain_logits(again, backbone, batch), expected)


def test_merging_can_be_undone(tiny_model: Models) -> None:
    backbone = build(tiny_model, "gpt2")
    change(backbone)
    batch = batch_of(backbone)
    expected = logits_of(backbone, batch)
    backbone.model.merge_adapter()
    torch.testing.assert_close(logits_of(backbone, batch), expected)
    backbone.model.unmerge_adapter()
    torch.testing.assert_close(logits_of(backbone, batch), expected)
    base = plain_logits(plain(tiny_model, "gpt2"), backbone, batch)
    backbone.model.merge_adapter()
    with backbone.model.disable_adapter():
        torch.testing.assert_close(logits_of(backbone, batch), base)

    with torch.no_grad():
        next(iter(backbone.trainable().values())).fill_(float("nan"))
    with pytest.raises(ValueError, match="'default' has a bias that is not finite"):
        backbone.model.merge_adapter(safe_merge=True)


def test_two_adapters_add_up(tiny_model: Models) -> None:
    backbone = build(tiny_model, "gpt2")
    backbone.add_adapter("second")
    change(backbone, "default", seed=1)
    change(backbone, "second", seed=2)
    batch = batch_of(backbone)
    backbone.activate("default", "second")
    both = logits_of(backbone, batch)
    loss_of(backbone, batch).backward()
    for name, parameter in backbone.trainable("second").items():
        other = backbone.trainable()[name].grad
        torch.testing.assert_close(parameter.grad, other, rtol=1e-5, atol=1e-7)

    second = backbone.trainable("second")
    summed = {name: p + second[name] for name, p in backbone.trainable().items()}
    backbone.load_trainable(summed)
    backbone.activate("default")
    torch.testing.assert_close(logits_of(backbone, batch), both)


def test_some_biases(tiny_model: Models) -> None:
    backbone = build(tiny_model, "bert", target_modules=["query", "intermediate.dense"])
    biases = [n for n in backbone.trainable() if n.endswith("bitfit_bias")]
    assert {n.split(".")[-2] for n in biases} == {"query", "dense"}
    assert len(biases) == 4
    without = build(tiny_model, "bert", exclude_modules=["LayerNorm"], modules_to_save=["pooler"])
    names = without.trainable().keys()
    assert "base_model.model.bert.pooler.dense.weight" in names
    assert not any("LayerNorm" in n or "pooler.dense.bitfit" in n for n in names)


def test_half_precision_keeps_adapters_of_float32(tiny_model: Models) -> None:
    folder = folder_of(tiny_model, "gpt2")
    backbone = CausalLM(folder, peft=BitFitConfig(), dtype="bfloat16")
    assert {p.dtype for p in backbone.trainable().values()} == {torch.float32}
    change(backbone)
    batch = batch_of(backbone)
    loss_of(backbone, batch).backward()
    expected = logits_of(backbone, batch)
    assert expected.dtype == torch.bfloat16
    backbone.model.merge_adapter()
    torch.testing.assert_close(logits_of(backbone, batch), expected)


@pytest.mark.parametrize(("name", "kind"), [("llama", CausalLM), ("t5", SequenceClassifier)])
def test_a_model_without_biases(tiny_model: Models, name: str, kind: Any) -> None:
    with pytest.raises(
        ValueError, match=r"^`model\.backbone\.peft`: BitFit trains biases, but \w+ has none$"
    ):
        kind(tiny_model(name), peft=BitFitConfig())


def test_modules_without_bias(tiny_model: Models) -> None:
    with pytest.raises(ValueError, match=r"peft`: module model\.layers\.0\.\S*q_proj has no bias"):
        CausalLM(tiny_model("llama"), peft=BitFitConfig(target_modules=["q_proj"]))
    with pytest.raises(ValueError, match=r"`model\.backbone\.peft\.target_modules` .* got puller"):
        CausalLM(tiny_model("gpt2"), peft=BitFitConfig(target_modules=["puller"]))
