"""The adapter of a folded model, on the original base and with plain peft."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from lit_fed.backbones import Backbone, CausalLM, SequenceClassifier
from lit_fed.backbones.folding import WeightChange
from tests.methods.toy_methods import WORDS, save_toy_lm

IDS = torch.tensor([[2, 5, 9, 14, 3], [2, 6, 7, 11, 3]])

Change = Callable[[int, int], WeightChange]


def dense(out: int, width: int) -> WeightChange:
    return WeightChange(0.2 * torch.randn(out, width))


def factors(rank: int) -> Change:
    return lambda out, width: WeightChange(0.2 * torch.randn(out, rank), torch.randn(rank, width))


def folded(backbone: Backbone, *changes: Change) -> Backbone:
    """Changes in turn of the layers, and trained factors; the last layer has no change."""
    with torch.no_grad():
        for parameter in backbone.trainable().values():
            parameter.normal_(std=0.2)
    layers = [n for n, m in backbone.model.named_modules() if hasattr(m, "get_delta_weight")]
    found = {}
    for number, layer in enumerate(layers[:-1]):
        module = backbone.model.get_submodule(layer)
        delta = module.get_delta_weight("default").shape
        transposed = "embedding" in layer or getattr(module, "fan_in_fan_out", False)
        out, width = delta[::-1] if transposed else delta
        found[layer] = changes[number % len(changes)](out, width)
    backbone.fold(found)
    return backbone.eval()


def assert_the_same_with_plain_peft(backbone: Backbone, model: Path, folder: Path) -> Any:
    backbone.save_pretrained(folder)
    config = AutoConfig.from_pretrained(folder / "model_config.json")
    auto: Any = AutoModelForCausalLM
    if isinstance(backbone, SequenceClassifier):
        auto = AutoModelForSequenceClassification
    base = auto.from_pretrained(model, config=config)
    loaded = PeftModel.from_pretrained(base, str(folder)).eval()
    with torch.no_grad():
        ours: Tensor = backbone.model(input_ids=IDS).logits
        theirs: Tensor = loaded(input_ids=IDS).logits
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5 * float(ours.abs().max()))
    return loaded.peft_config["default"]


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 3, "lora_alpha": 7, "target_modules": ["query", "value", "dense"]},
        {"r": 4, "use_rslora": True, "target_modules": ["query", "value"]},
        {"r": 4, "rank_pattern": {"query": 2}, "alpha_pattern": {"value": 3}}
        | {"target_modules": ["query", "value"]},
        {"r": 2, "target_modules": ["word_embeddings", "query"]},
    ],
    ids=["several shapes", "rslora", "patterns", "embedding"],
)
def test_plain_peft_predicts_the_same_on_the_original_base(
    settings: dict[str, Any], toy_model: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    backbone = SequenceClassifier(str(toy_model), peft=LoraConfig(**settings))
    folded(backbone, factors(5), factors(2), dense)
    config = assert_the_same_with_plain_peft(backbone, toy_model, tmp_path)
    assert set(config.rank_pattern) == set(config.alpha_pattern) != set()
    assert not config.use_rslora


def test_layers_of_one_rank_need_no_pattern(toy_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = SequenceClassifier(
        str(toy_model), peft=LoraConfig(r=3, lora_alpha=7, target_modules=["query"])
    )
    with torch.no_grad():
        for parameter in backbone.trainable().values():
            parameter.normal_()
    layers = [n for n, m in backbone.model.named_modules() if hasattr(m, "get_delta_weight")]
    backbone.fold({layer: factors(5)(32, 32) for layer in layers})
    config = assert_the_same_with_plain_peft(backbone.eval(), toy_model, tmp_path)
    assert (config.r, config.lora_alpha, config.rank_pattern) == (8, 8, {})


def test_transposed_weights_and_a_decoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = save_toy_lm(tmp_path / "gpt2")
    size = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    config = GPT2Config(vocab_size=len(WORDS), bos_token_id=2, eos_token_id=2, **size)
    GPT2LMHeadModel(config).save_pretrained(model)
    peft = LoraConfig(r=2, target_modules=["c_attn", "c_proj"])
    backbone = folded(CausalLM(str(model), peft=peft), factors(3), dense)
    assert_the_same_with_plain_peft(backbone, model, tmp_path / "adapter")


def test_another_adapter_than_the_first(toy_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = SequenceClassifier(
        str(toy_model), peft=LoraConfig(r=3, target_modules=["query", "value"])
    )
    backbone.add_adapter("odd", LoraConfig(r=5, lora_alpha=2, target_modules=["query", "value"]))
    with torch.no_grad():
        for parameter in backbone.trainable("odd").values():
            parameter.normal_(std=0.2)
    backbone.activate("odd")
    folded(backbone, factors(4))
    backbone.save_pretrained(tmp_path, "odd")
    base = AutoModelForSequenceClassification.from_pretrained(toy_model)
    loaded = PeftModel.from_pretrained(base, str(tmp_path)).eval()
    with torch.no_grad():
        ours, theirs = backbone.model(input_ids=IDS).logits, loaded(input_ids=IDS).logits
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)


def test_without_a_change_the_file_is_as_ever(toy_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    peft = LoraConfig(r=3, use_rslora=True, target_modules=["query"])
    backbone = SequenceClassifier(str(toy_model), peft=peft)
    backbone.save_pretrained(tmp_path / "before")
    layer = next(n for n, m in backbone.model.named_modules() if hasattr(m, "get_delta_weight"))
    backbone.fold({layer: dense(32, 32)})
    backbone.fold({})
    backbone.save_pretrained(tmp_path / "after")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()


@pytest.mark.parametrize(
    ("first", "said"),
    [({"use_dora": True}, "lora_magnitude_vector"), ({"lora_bias": True}, "lora_B.bias")],
)
def test_what_changes_more_than_weights_is_not_written_as_one(
    first: dict[str, Any], said: str, tmp_path: Path
) -> None:
    targets = ["q_proj", "v_proj"]
    model = save_toy_lm(tmp_path / "lm")
    backbone = CausalLM(str(model), peft=LoraConfig(r=2, target_modules=targets, **first))
    backbone.add_adapter("other", LoraConfig(r=2, target_modules=targets))
    with pytest.raises(ValueError, match=f"to be LoRAs where they are written as one, .*{said}"):
        backbone.save_pretrained(tmp_path / "both", "default", "other")
