from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from peft import (
    IA3Config,
    LoraConfig,
    OFTConfig,
    PrefixTuningConfig,
    PromptTuningConfig,
    VeraConfig,
)

from lit_fed.backbones import CausalLM, SequenceClassifier

Models = Callable[..., str]


def adapted(backbone: Any) -> set[str]:
    """Last names of the modules that have a LoRA."""
    return {name.split(".")[-3] for name in backbone.trainable() if "lora_A" in name}


def test_default_is_lora_of_rank_8_and_alpha_16(tiny_model: Models) -> None:
    backbone = SequenceClassifier(tiny_model("bert"))
    config = backbone.model.peft_config["default"]
    assert (config.r, config.lora_alpha, config.lora_dropout) == (8, 16, 0.0)
    assert adapted(backbone) == {"query", "value"}


def test_unknown_architecture_gets_all_linear_layers_but_the_head(tiny_model: Models) -> None:
    backbone = SequenceClassifier(tiny_model("distilbert"), peft=LoraConfig(r=2))
    assert adapted(backbone) == {"q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2"}
    heads = {n.split(".")[2] for n in backbone.trainable() if "lora" not in n}
    assert heads == {"pre_classifier", "classifier"}


@pytest.mark.parametrize(
    ("name", "head"), [("bert", "classifier"), ("gpt2", "score"), ("t5", "classification_head")]
)
@pytest.mark.parametrize("peft", ["lora", LoraConfig(), LoraConfig(target_modules="all-linear")])
def test_head_is_trained(tiny_model: Models, name: str, head: str, peft: Any) -> None:
    backbone = SequenceClassifier(tiny_model(name), peft=peft)
    heads = {n.split(".")[2] for n in backbone.trainable() if "lora" not in n}
    assert heads == {head}


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(modules_to_save=["pooler"]),
        IA3Config(),
        PromptTuningConfig(num_virtual_tokens=2),
    ],
)
def test_configuration_is_not_changed(tiny_model: Models, config: Any) -> None:
    before = copy.deepcopy(config)
    first = SequenceClassifier(tiny_model("bert"), peft=config)
    first.add_adapter("other")
    assert config == before
    again = SequenceClassifier(tiny_model("bert"), peft=config)
    assert again.trainable().keys() == first.trainable().keys()


def test_adapter_knows_its_base(tiny_model: Models) -> None:
    config = CausalLM(tiny_model("gpt2"), revision="main").model.peft_config["default"]
    assert config.base_model_name_or_path == tiny_model("gpt2")
    assert (config.revision, config.task_type.value) == ("main", "CAUSAL_LM")


@pytest.mark.parametrize("wanted", [["q_proj", "query"], ["q_proj"], "nothing.*"])
def test_target_modules_that_are_not_there(tiny_model: Models, wanted: Any) -> None:
    shown = wanted if isinstance(wanted, str) else "q_proj"
    with pytest.raises(ValueError, match="but got") as raised:
        SequenceClassifier(tiny_model("bert"), peft=LoraConfig(target_modules=wanted))
    assert str(raised.value) == (
        f"`model.backbone.peft.target_modules` is expected to name modules of the model that "
        f"LoraConfig can adapt, but got {shown}; its linear layers are dense, key, query, value"
    )


def test_target_modules_that_peft_does_not_know(tiny_model: Models) -> None:
    with pytest.raises(ValueError, match=r"peft\.target_modules` .* VeraConfig .* null; .*q_lin"):
        SequenceClassifier(tiny_model("distilbert"), peft=VeraConfig())


def test_kind_of_layer_that_peft_cannot_adapt(tiny_model: Models) -> None:
    with pytest.raises(ValueError, match=r"^`model\.backbone\.peft`: Target module Conv1D"):
        CausalLM(tiny_model("gpt2"), peft=OFTConfig(target_modules=["c_attn"]))


def test_modules_to_save_that_are_not_there(tiny_model: Models) -> None:
    with pytest.raises(ValueError, match=r"modules_to_save` .* no puller; it has .*pooler"):
        SequenceClassifier(tiny_model("bert"), peft=LoraConfig(modules_to_save=["puller"]))


@pytest.mark.parametrize("peft", ["Lora", {"r": 8}, LoraConfig])
def test_no_configuration(tiny_model: Models, peft: Any) -> None:
    with pytest.raises(TypeError, match=r"`model\.backbone\.peft` is expected to be a PEFT"):
        SequenceClassifier(tiny_model("bert"), peft=peft)


@pytest.mark.parametrize("config", [PromptTuningConfig, PrefixTuningConfig])
def test_prompts_for_an_encoder_decoder(tiny_model: Models, config: Any) -> None:
    with pytest.raises(ValueError, match="T5ForSequenceClassification takes no prompts"):
        SequenceClassifier(tiny_model("t5"), peft=config(num_virtual_tokens=2))


class TestWeightsThatTheCheckpointLacks:
    """A masked language model is saved without the pooler that the classifier reads from."""

    folder_of = ("bert", "BertForMaskedLM")

    def test_are_an_error_if_they_would_be_lost(self, tiny_model: Models) -> None:
        with pytest.raises(ValueError, match="no weights") as raised:
            SequenceClassifier(tiny_model(*self.folder_of), peft=LoraConfig())
        message = str(raised.value)
        assert "bert.pooler.dense.bias, bert.pooler.dense.weight" in message
        assert "`model.backbone.peft.modules_to_save: [bert.pooler.dense]`" in message

    def test_are_trained_as_the_error_proposes(self, tiny_model: Models) -> None:
        config = LoraConfig(modules_to_save=["bert.pooler.dense"])
        backbone = SequenceClassifier(tiny_model(*self.folder_of), peft=config)
        assert "base_model.model.bert.pooler.dense.weight" in backbone.trainable()

    @pytest.mark.parametrize("peft", ["lora", None])
    def test_are_trained_by_default(self, tiny_model: Models, peft: Any) -> None:
        backbone = SequenceClassifier(tiny_model(*self.folder_of), peft=peft)
        assert any("pooler.dense.weight" in name for name in backbone.trainable())
