"""The work that the benchmarks time: LoRA on a 6-layer Llama of width 288, and a bare loop that does it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from lightning import seed_everything
from lightning.pytorch import Callback
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from lit_fed import FedAvg, FederatedTrainer
from lit_fed.backbones import CausalLM
from lit_fed.data import CausalLMEncoding, FederatedDataModule, IIDPartitioner

VOCABULARY, LENGTH, BATCH, STEPS, LR = 4096, 64, 4, 8, 1e-3


def save_model(folder: Path) -> Path:
    """A random 6-layer Llama of width 288 with a tokenizer that makes one token of every word."""
    # no special token is the beginning of a word, where the tokenizer would cut it out
    special = ["[PAD]", "[UNK]", "[END]"]
    words = {word: i for i, word in enumerate([*special, *(f"w{i}" for i in range(3, VOCABULARY))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]"
    ).save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=288,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=6,
        max_position_embeddings=256,
        pad_token_id=0,
        eos_token_id=2,
    )
    seed_everything(0, verbose=False)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def lora(r: int = 8) -> LoraConfig:
    return LoraConfig(r=r, lora_alpha=2 * r, target_modules="all-linear", task_type="CAUSAL_LM")


def texts(clients: int, rows: int = BATCH * STEPS) -> Dataset:
    """``rows`` texts of exactly ``LENGTH`` tokens, end of text included, for each client."""
    tokens = np.random.default_rng(0).integers(3, VOCABULARY, (clients * rows, LENGTH - 1))
    return Dataset.from_dict({"text": [" ".join(f"w{t}" for t in row) for row in tokens]})


def data(clients: int, rows: int = BATCH * STEPS) -> FederatedDataModule:
    return FederatedDataModule(
        train=texts(clients, rows),
        encoding=CausalLMEncoding(template="{text}", response="text"),
        partitioner=IIDPartitioner(),
        num_clients=clients,
        batch_size=BATCH,
        max_length=LENGTH,
        validation_fraction=0.0,
        public_size=0,
        seed=0,
    )


def adamw(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=LR)


def method(folder: Path, r: int = 8) -> FedAvg:
    seed_everything(0, verbose=False)
    return FedAvg(CausalLM(str(folder), peft=lora(r)), optimizer=adamw, warmup_steps=0)


def trainer(root: Path, rounds: int, **settings: Any) -> FederatedTrainer:
    given: dict[str, Any] = {
        "max_rounds": rounds,
        "local_steps": STEPS,
        "seed": 0,
        "accelerator": "cpu",
        "default_root_dir": str(root),
        "enable_progress_bar": False,
    }
    return FederatedTrainer(**given | settings)


def seconds_of_a_round(trainer: FederatedTrainer) -> float:
    """Processor time of one more round: local training, upload and aggregation, no evaluation."""
    started = time.process_time()
    trainer._loop.run_round()
    return time.process_time() - started


class Marks(Callback):
    """Calls back when the rounds begin and when they are done."""

    def __init__(self, begin: Any, end: Any) -> None:
        self.begin, self.end = begin, end

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        self.begin()

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        self.end()


class BareLoop:
    """Federated averaging in plain PyTorch: one model, the clients' adapters copied in and out."""

    def __init__(self, folder: Path, tokens: list[torch.Tensor]) -> None:
        """``tokens`` [rows, LENGTH] per client."""
        seed_everything(0, verbose=False)
        self.model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), lora())
        self.model.train()
        self.trainable = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.tokens = tokens
        self.state = {n: p.detach().clone() for n, p in self.trainable.items()}

    def round(self, number: int) -> None:
        sent = []
        for index, tokens in enumerate(self.tokens):
            self._load(self.state)
            optimizer = adamw(list(self.trainable.values()))
            for batch in self._batches(tokens, number, index):
                logits = self.model(input_ids=batch, attention_mask=torch.ones_like(batch)).logits
                loss = torch.nn.functional.cross_entropy(
                    logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten()
                )
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.trainable.values(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            sent.append({n: p.detach().clone() for n, p in self.trainable.items()})
        self.state = {n: torch.stack([s[n] for s in sent]).mean(0) for n in self.state}

    def _load(self, state: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.trainable.items():
                parameter.copy_(state[name])

    @staticmethod
    def _batches(tokens: torch.Tensor, number: int, index: int) -> Iterator[torch.Tensor]:
        order = torch.randperm(
            len(tokens), generator=torch.Generator().manual_seed(1000 * number + index)
        )
        for step in range(STEPS):
            yield tokens[order[step * BATCH : (step + 1) * BATCH]]


def tokens_of(module: FedAvg, clients: int, rows: int = BATCH * STEPS) -> list[torch.Tensor]:
    """The clients' rows as the data module tokenises them, for the bare loop."""
    source = data(clients, rows)
    source.setup()
    return [
        torch.cat([b["input_ids"] for b in source.dataloader(c.rows, module.tokenizer)])
        for c in source.clients
    ]
