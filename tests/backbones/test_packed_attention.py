"""Which language models read packed rows as if each were alone."""

from pathlib import Path

import pytest
from peft import PromptTuningConfig
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)

from lit_fed.backbones import CausalLM, SequenceClassifier
from tests.data.encodings import chat_tokenizers
from tests.federation.toy import save_toy_model
from tests.methods.toy_chats import save_chat_lm

VOCABULARY = len(chat_tokenizers.smollm())
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


@pytest.mark.parametrize(
    ("model", "config", "expected"),
    [
        (LlamaForCausalLM, None, True),
        (GPT2LMHeadModel, GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2), True),
        # state runs through the sequence, whatever the positions are
        (
            MambaForCausalLM,
            MambaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, state_size=4),
            False,
        ),
        # farther than a few tokens it sees nothing, which a short trial does not show
        (
            MistralForCausalLM,
            MistralConfig(
                vocab_size=VOCABULARY, num_key_value_heads=2, sliding_window=100, **SMALL
            ),
            False,
        ),
    ],
    ids=["llama", "gpt2", "mamba", "window"],
)
def test_it_is_found_by_trying(
    model: type[PreTrainedModel], config: PretrainedConfig | None, expected: bool, tmp_path: Path
) -> None:
    backbone = CausalLM(str(save_chat_lm(tmp_path, model, config)), peft=None)
    assert backbone.packs is expected


def test_not_behind_a_learnt_prompt_and_not_to_classify(tmp_path: Path) -> None:
    folder = str(save_chat_lm(tmp_path / "lm"))
    assert CausalLM(folder).packs
    assert not CausalLM(folder, peft=PromptTuningConfig(num_virtual_tokens=3)).packs
    assert not SequenceClassifier(str(save_toy_model(tmp_path / "classifier"))).packs
