"""A toy language model that chats, and rows for it."""

from __future__ import annotations

from pathlib import Path

import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PretrainedConfig, PreTrainedModel

from tests.data.encodings import chat_tokenizers


def save_chat_lm(
    folder: Path,
    model: type[PreTrainedModel] = LlamaForCausalLM,
    config: PretrainedConfig | None = None,
) -> Path:
    """A random model of width 16 with a tokenizer as SmolLM's, which has a chat template."""
    tokenizer = chat_tokenizers.smollm()
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model(config or llama_config(len(tokenizer))).save_pretrained(folder)
    return folder


def llama_config(vocab_size: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        max_position_embeddings=512,
        initializer_range=0.3,
        eos_token_id=None,
        bos_token_id=None,
    )


def chat_rows(count: int) -> Dataset:
    """Instructions with responses of different lengths."""
    table = {
        "instruction": [f"What is {i} + {i}?" + " Why?" * (i % 4) for i in range(count)],
        "response": [f"It is {2 * i}." + " So it is." * (i % 3) for i in range(count)],
    }
    return Dataset.from_dict(table)
