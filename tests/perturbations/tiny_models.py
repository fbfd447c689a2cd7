"""Random transformers, small enough to run in milliseconds, one of each kind of structure."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GlmConfig,
    GlmForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForSequenceClassification,
    T5Config,
    T5EncoderModel,
)

_SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "vocab_size": 50,
}
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def llama() -> nn.Module:
    config = LlamaConfig(**_SIZES, **_IDS, num_key_value_heads=2, attention_dropout=0.2)
    return LlamaForSequenceClassification(config)


def bert() -> nn.Module:
    return BertForSequenceClassification(BertConfig(**_SIZES, hidden_dropout_prob=0.2))


def gpt2() -> nn.Module:
    return GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=50, **_IDS))


def glm() -> nn.Module:
    return GlmForCausalLM(GlmConfig(**_SIZES, **_IDS, num_key_value_heads=2, head_dim=8))


def t5() -> nn.Module:
    return T5EncoderModel(
        T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, vocab_size=50)
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "llama": llama,
    "bert": bert,
    "gpt2": gpt2,
    "glm": glm,
    "t5": t5,
}


def build(name: str) -> nn.Module:
    """The model in training mode: its dropout is on."""
    torch.manual_seed(0)
    return MODELS[name]().train()


def batch() -> dict[str, Tensor]:
    """Three sequences of 7 tokens with padding on the right."""
    drawn = torch.Generator().manual_seed(0)
    mask = torch.arange(7) < torch.tensor([7, 4, 2]).unsqueeze(-1)
    ids = torch.randint(3, 50, (3, 7), generator=drawn).masked_fill(~mask, 0)
    return {"input_ids": ids, "attention_mask": mask.long()}


def answer(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Logits, or the hidden state of a model without a head."""
    return model(**inputs)[0]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
