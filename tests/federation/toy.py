"""A federation that learns in a second: short texts, a random BERT of width 32, LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from datasets import Dataset
from lightning import seed_everything
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from lit_fed import FedAvg, FederatedTrainer
from lit_fed.backbones import SequenceClassifier
from lit_fed.data import ClassificationEncoding, DirichletPartitioner, FederatedDataModule

GOOD, BAD = ["good", "fine", "warm", "kind", "bright"], ["bad", "cold", "dull", "cruel", "grey"]
FILLER = [
    "a",
    "the",
    "film",
    "day",
    "book",
    "was",
    "very",
    "and",
    "it",
    "this",
    "old",
    "new",
    "long",
    "short",
    "place",
]
CLIENTS = 4


def save_toy_model(folder: Path, width: int = 32, extra_words: tuple[str, ...] = ()) -> Path:
    """A random BERT with its tokenizer, in Hugging Face format; other ``extra_words``, another vocabulary."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *extra_words, *GOOD, *BAD, *FILLER]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(words),
            hidden_size=width,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=2 * width,
            max_position_embeddings=32,
            num_labels=2,
            initializer_range=0.2,
        )
        model = BertForSequenceClassification(config)
        # good and bad words lie apart, as pre-training would have put them
        embedding = model.get_input_embeddings().weight.data
        for group, sign in ((GOOD, 1.0), (BAD, -1.0)):
            embedding[[words.index(w) for w in group], : width // 2] += 2 * sign
        model.save_pretrained(folder)
    return folder


def toy_rows(count: int, seed: int) -> Dataset:
    """Texts of 4 to 9 words; the label says whether a good or a bad word is among them."""
    draw = np.random.default_rng(seed)
    labels = [i % 2 for i in range(count)]
    texts = []
    for label in labels:
        words = draw.choice(FILLER, draw.integers(3, 9)).tolist()
        words.insert(int(draw.integers(0, len(words))), str(draw.choice(GOOD if label else BAD)))
        texts.append(" ".join(words))
    return Dataset.from_dict({"text": texts, "label": labels})


def toy_data(**settings: Any) -> FederatedDataModule:
    given: dict[str, Any] = {
        "train": toy_rows(96, 0),
        "validation": toy_rows(40, 1),
        "test": toy_rows(40, 2),
        "public": toy_rows(24, 3),
        "encoding": ClassificationEncoding(text="text", text_pair=None),
        "partitioner": DirichletPartitioner(alpha=1.0),
        "num_clients": CLIENTS,
        "batch_size": 8,
        "max_length": 16,
        "seed": 0,
    }
    return FederatedDataModule(**given | settings)


def fast_adamw(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=1e-2)


def toy_backbone(folder: Path, dropout: float = 0.0) -> SequenceClassifier:
    seed_everything(0, verbose=False)
    return SequenceClassifier(str(folder), peft=LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout))


def toy_module(folder: Path, dropout: float = 0.1) -> FedAvg:
    return FedAvg(toy_backbone(folder, dropout), optimizer=fast_adamw, warmup_steps=0)


def toy_trainer(root: Path, **settings: Any) -> FederatedTrainer:
    given: dict[str, Any] = {
        "max_rounds": 3,
        "clients_per_round": 3,
        "seed": 0,
        "accelerator": "cpu",
        "default_root_dir": str(root),
        "enable_progress_bar": False,
        "loggers": False,
    }
    return FederatedTrainer(**given | settings)


def without_times(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Rows of the history without what differs between two runs of the same work."""
    return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in history]


def save_toy_config(folder: Path) -> Path:
    """A small run from CSV files as a YAML for the command line, with all that it needs beside it."""
    save_toy_model(folder / "model")
    for seed, split in enumerate(("train", "test")):
        toy_rows(80, seed).to_csv(folder / f"{split}.csv")
    sources = {
        split: {
            "class_path": "lit_fed.data.CSVSource",
            "init_args": {"path": str(folder / f"{split}.csv")},
        }
        for split in ("train", "test")
    }
    backbone = {
        "class_path": "lit_fed.backbones.SequenceClassifier",
        "init_args": {"model": str(folder / "model")},
    }
    optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.01}}
    encoding = {
        "class_path": "lit_fed.data.ClassificationEncoding",
        "init_args": {"text": "text", "text_pair": None},
    }
    config = {
        "seed_everything": 3,
        "model": {
            "class_path": "lit_fed.FedAvg",
            "init_args": {"backbone": backbone, "optimizer": optimizer, "warmup_steps": 0},
        },
        "data": {**sources, "encoding": encoding, "num_clients": 3},
        "trainer": {"max_rounds": 2, "accelerator": "cpu", "enable_progress_bar": False},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path
