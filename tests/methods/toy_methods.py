"""Toy classifiers and language models without dropout, and methods on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lit_fed import FederatedModule
from lit_fed.backbones import CausalLM
from lit_fed.data import CausalLMEncoding, FederatedDataModule, IIDPartitioner
from tests.federation.toy import (
    BAD,
    FILLER,
    GOOD,
    fast_adamw,
    save_toy_model,
    toy_backbone,
    toy_rows,
)

WORDS = ["[PAD]", "[UNK]", "[EOS]", "text", "is", ":", *GOOD, *BAD, *FILLER]


def save_sober_model(folder: Path) -> Path:
    """The toy classifier without any dropout."""
    save_toy_model(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    path.write_text(json.dumps(config))
    return folder


def save_toy_lm(folder: Path, more: Sequence[str] = (), positions: int = 64) -> Path:
    """A random Llama of width 16 with its tokenizer, which may know more words."""
    words = [*WORDS, *more]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]"
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            intermediate_size=32,
            max_position_embeddings=positions,
            initializer_range=0.2,
        )
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def lm_rows(count: int, seed: int) -> Dataset:
    """Texts and whether they are good or bad, in words."""
    rows = toy_rows(count, seed)
    answers = [("bad and cold", "good")[label] for label in rows["label"]]
    return Dataset.from_dict({"text": rows["text"], "answer": answers})


def lm_data(**settings: Any) -> FederatedDataModule:
    given: dict[str, Any] = {
        "train": lm_rows(48, 0),
        "validation": lm_rows(8, 1),
        "test": lm_rows(8, 2),
        "public": lm_rows(12, 3),
        "encoding": CausalLMEncoding(template="text : {text} is : {answer}", response="answer"),
        "partitioner": IIDPartitioner(),
        "num_clients": 2,
        "batch_size": 8,
        "max_length": 32,
        "seed": 0,
    }
    return FederatedDataModule(**given | settings)


def classify(method: type[FederatedModule], folder: Path, **settings: Any) -> FederatedModule:
    given = {"optimizer": fast_adamw, "warmup_steps": 0}
    return method(toy_backbone(folder, dropout=0.0), **given | settings)


def continue_text(method: type[FederatedModule], folder: Path, **settings: Any) -> FederatedModule:
    torch.manual_seed(0)
    backbone = CausalLM(str(folder), peft=LoraConfig(r=4, lora_alpha=8))
    given = {"optimizer": fast_adamw, "warmup_steps": 0}
    return method(backbone, **given | settings)
