"""Which tensors of an adapter are factors, beside peft's own change of the weight."""

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig

from lit_fed.aggregation.lora.factors import LoRALayout
from lit_fed.backbones import CausalLM, SequenceClassifier


def classifier(config: PeftConfig | None) -> SequenceClassifier:
    return SequenceClassifier(peft=config, num_labels=3)


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(r=3, lora_alpha=7, target_modules=["query", "value"]),
        LoraConfig(r=4, lora_alpha=8, use_rslora=True, target_modules=["dense"]),
        LoraConfig(r=4, target_modules=["query", "dense"], rank_pattern={"dense": 2}),
        LoraConfig(r=4, target_modules=["word_embeddings", "query"]),
    ],
    ids=["plain", "rslora", "rank pattern", "embedding"],
)
def test_factors_are_peft_s_change_of_the_weight(config: LoraConfig) -> None:
    backbone = classifier(config)
    weights = backbone.trainable()
    with torch.no_grad():
        for value in weights.values():
            value.normal_()
    layout = LoRALayout.of(backbone, "Rule")
    modules = dict(backbone.model.named_modules())
    for layer, factors in layout.factors(weights).items():
        change = factors.scale * (factors.b @ factors.a)
        expected = modules[layer].get_delta_weight("default")
        if "embedding" in layer:
            expected = expected.T
        torch.testing.assert_close(change, expected)
    assert [n.rsplit(".", 2)[-2] for n in layout.others(list(weights))] == ["classifier"] * 2
    adapted = [m for m in modules.values() if hasattr(m, "get_delta_weight")]
    assert len(adapted) == len(layout.weights)


def test_a_decoder_has_factors_too() -> None:
    layout = LoRALayout.of(CausalLM(peft=LoraConfig(target_modules="all-linear")), "Rule")
    assert layout.weights


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (None, "no factors A and B"),
        (IA3Config(target_modules=["query"], feedforward_modules=[]), "no factors A and B"),
        (LoraConfig(use_dora=True, target_modules=["query"]), "lora_magnitude_vector"),
        (LoraConfig(lora_bias=True, target_modules=["query"]), r"lora_B\.bias"),
    ],
    ids=["all weights", "ia3", "dora", "bias"],
)
def test_what_is_no_product_is_refused(config: PeftConfig | None, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"`model\.aggregation` FLoRA expects .*{reason}"):
        LoRALayout.of(classifier(config), "FLoRA")
