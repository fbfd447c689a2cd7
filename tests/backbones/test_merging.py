"""Merged models: plain transformers predicts with them what the adapter did; what cannot be merged is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoHaConfig, LoraConfig, PrefixTuningConfig, PromptTuningConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from lit_fed.backbones import (
    Backbone,
    BitFitConfig,
    BottleneckConfig,
    CausalLM,
    SequenceClassifier,
)
from lit_fed.backbones.folding import WeightChange

from .batches import batch_of, change, logits_of

Models = Callable[..., str]
BERT = "BertForSequenceClassification"
MERGED: dict[str, Any] = {
    "lora": LoraConfig(r=4),
    "dora": LoraConfig(r=4, use_dora=True),
    "ia3": IA3Config(),
    "loha": LoHaConfig(r=2, target_modules="all-linear"),
    "bitfit": BitFitConfig(),
    "all weights": None,
}


def plain_logits(folder: Path, backbone: Backbone, batch: dict[str, Any]) -> torch.Tensor:
    """By transformers alone."""
    auto: Any = AutoModelForSequenceClassification
    if isinstance(backbone, CausalLM):
        auto = AutoModelForCausalLM
    model = auto.from_pretrained(folder).eval()
    inputs = {k: v for k, v in batch.items() if k != "labels"}
    with torch.no_grad():
        logits: torch.Tensor = model(**inputs).logits
    return logits[:, :-1] if isinstance(backbone, CausalLM) else logits


@pytest.mark.parametrize("kind", MERGED)
def test_a_merged_classifier_predicts_the_same_and_names_its_labels(
    kind: str, tiny_model: Models, tmp_path: Path
) -> None:
    backbone = SequenceClassifier(tiny_model("bert", BERT), peft=MERGED[kind])
    backbone.name_labels(["calm", "urgent"])
    change(backbone)
    batch = batch_of(backbone)
    before = logits_of(backbone, batch)
    backbone.save_merged(tmp_path)
    torch.testing.assert_close(
        plain_logits(tmp_path, backbone, batch), before, atol=1e-5, rtol=1e-4
    )
    assert torch.equal(logits_of(backbone, batch), before)
    assert backbone.training
    assert not (tmp_path / "adapter_config.json").exists()
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert model.config.id2label == {0: "calm", 1: "urgent"}
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == len(backbone.tokenizer)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_merged_language_model_has_what_is_folded_and_all_adapters(
    name: str, tiny_model: Models, tmp_path: Path
) -> None:
    backbone = CausalLM(tiny_model(name), peft=LoraConfig(r=2, lora_alpha=6))
    backbone.add_adapter("private")
    change(backbone)
    with torch.no_grad():
        for parameter in backbone.trainable("private").values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    layer = next(n.removesuffix(".lora_A.weight") for n in backbone.trainable() if "lora_A" in n)
    out, width = backbone.trainable()[f"{layer}.lora_B.weight"].shape[0], 0
    width = backbone.trainable()[f"{layer}.lora_A.weight"].shape[1]
    backbone.fold({layer: WeightChange(0.1 * torch.randn(out, width))})
    backbone.activate("default", "private")
    batch = batch_of(backbone)
    expected = logits_of(backbone, batch)
    backbone.end_with([3])
    backbone.save_merged(tmp_path, "default", "private")
    torch.testing.assert_close(
        plain_logits(tmp_path, backbone, batch), expected, atol=1e-5, rtol=1e-4
    )
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert 3 in model.generation_config.eos_token_id
    assert backbone.active_adapters == ("default", "private")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (PromptTuningConfig(num_virtual_tokens=2), "PROMPT_TUNING cannot be merged"),
        (PrefixTuningConfig(num_virtual_tokens=2), "PREFIX_TUNING cannot be merged"),
        (BottleneckConfig(width=4), "BOTTLENECK cannot be merged .* not linear"),
    ],
)
def test_what_cannot_be_merged_is_refused_and_leaves_nothing(
    config: Any, said: str, tiny_model: Models, tmp_path: Path
) -> None:
    backbone = CausalLM(tiny_model("llama"), peft=config)
    with pytest.raises(ValueError, match=f"`merge` is true, but adapters of {said}"):
        backbone.save_merged(tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_base_that_is_another_one_by_now_is_noticed(
    tiny_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = SequenceClassifier(tiny_model("bert", BERT))
    change(backbone)
    with torch.no_grad():
        backbone.model.get_base_model().bert.embeddings.word_embeddings.weight.mul_(3)
    with pytest.raises(ValueError, match="does not predict what the adapter did: logits differ by"):
        backbone.save_merged(tmp_path / "merged")


def test_weights_of_16_bits_stay_so(tiny_model: Models, tmp_path: Path) -> None:
    backbone = SequenceClassifier(tiny_model("bert", BERT), dtype="bfloat16")
    change(backbone)
    backbone.save_merged(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype="auto")
    assert model.dtype == torch.bfloat16
