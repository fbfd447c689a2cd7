"""The work that lit_fed, a bare loop, Flower and pfl-research all do, without importing any of them.

K clients take S steps a round of AdamW on a LoRA adapter of rank 8 (and the head) of the same model, from the same
initial weights, on the same batches, each round in the same order; the server averages. The gradient's norm
is bounded by 1. There is no dropout, so that all programs compute the same numbers. Two works:

- C: a BERT of all-MiniLM-L6-v2's shape (or its weights) with LoRA on query and value and a head of two classes,
  batches of 4 x 32 tokens;
- G: a 6-layer Llama of width 288 and a vocabulary of 4,096 with LoRA on all linear layers, batches of 2 x 64.

Texts are random. ``prepare`` writes a folder with the model, the initial weights and the clients' rows; every program
reads it, times its rounds, writes its final weights into a file and prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LR, CLIP, RANK = 1e-3, 1.0, 8
FOLDER = "LIT_FED_RIVALS_FOLDER"
END = 2  # id of the end of a text, which G learns as well


@dataclass(frozen=True)
class Work:
    vocabulary: int
    length: int
    batch: int


WORKS = {"C": Work(30522, 32, 4), "G": Work(4096, 64, 2)}


def parser() -> argparse.ArgumentParser:
    """What every program takes."""
    options = argparse.ArgumentParser()
    options.add_argument("--work", choices=WORKS, required=True)
    options.add_argument("--threads", type=int, default=1, help="of each process")
    options.add_argument("--processes", type=int, default=1)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--clients", type=int, default=16)
    options.add_argument("--steps", type=int, default=8)
    options.add_argument("--model", type=Path, help="all-MiniLM-L6-v2, for C; random otherwise")
    options.add_argument("--folder", type=Path, help="what `prepare` wrote; made anew otherwise")
    return options


def begin(options: argparse.Namespace) -> None:
    """Make the folder where none is given, once for all processes."""
    if options.folder is None and FOLDER in os.environ:
        options.folder = Path(os.environ[FOLDER])
    elif options.folder is None:
        options.folder = Path(tempfile.mkdtemp(prefix="rivals-"))
        prepare(options.work, options.folder, options.clients, options.steps, options.model)
        os.environ[FOLDER] = str(options.folder)


def report(seconds: float, weights: Mapping[str, Any], folder: Path) -> None:
    """Print the line of JSON; ``weights`` by :func:`name_of`, arrays or tensors without gradient."""
    import numpy as np
    from safetensors.numpy import save_file

    path = Path(folder) / f"final-{os.getpid()}.safetensors"
    save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, path)
    print(json.dumps({"rounds_s": seconds, "weights": str(path)}), flush=True)


def start_ranks(processes: int) -> tuple[int, list[subprocess.Popen[bytes]]]:
    """Start this program again as the ranks from 1 on, in torchrun's variables but without its own process.

    Returns:
        This process's rank, and the processes it started.
    """
    if "RANK" in os.environ or processes == 1:
        return int(os.environ.get("RANK", 0)), []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "rivals",
    }
    command = [sys.executable, *sys.orig_argv[1:]]
    return 0, [
        subprocess.Popen(command, env=os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(1, processes)
    ]


def finish_ranks(others: list[subprocess.Popen[bytes]]) -> None:
    """Wait for the ranks, none of which may have failed."""
    if failed := [code for other in others if (code := other.wait())]:
        raise RuntimeError(f"other ranks ended with {failed}")


# ---------------------------------------------------------------- model and rows


def load_model(work: str, folder: Path) -> torch.nn.Module:
    """The model with its adapter, at the initial weights, in training mode."""
    from safetensors.torch import load_file

    model = _adapted(work, folder)
    load_weights(trainable(model), load_file(folder / "initial.safetensors"))
    model.train()
    return model


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The adapter's and the head's parameters by :func:`name_of`."""
    return {name_of(n): p for n, p in model.named_parameters() if p.requires_grad}


def name_of(parameter: str) -> str:
    """A parameter's name in ``adapter_model.safetensors``, which lit_fed uses as well."""
    return parameter.replace(".modules_to_save.default", "").replace(".default", "")


def load_weights(
    parameters: dict[str, torch.nn.Parameter], weights: dict[str, torch.Tensor]
) -> None:
    import torch

    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def load_rows(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [clients, rows, length] and classes [clients, rows]."""
    from safetensors.torch import load_file

    rows = load_file(folder / "rows.safetensors")
    return rows["tokens"], rows["labels"]


def loss_of(
    model: torch.nn.Module, work: str, tokens: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """The mean cross-entropy of a batch; ``labels`` are of no use for G."""
    import torch

    logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
    if work == "C":
        return torch.nn.functional.cross_entropy(logits, labels)
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def train_client(
    model: torch.nn.Module,
    parameters: list[torch.nn.Parameter],
    work: str,
    tokens: torch.Tensor,
    labels: torch.Tensor,
) -> None:
    """One client's steps over its rows, for the programs that bring no loop of their own."""
    import torch

    optimizer = torch.optim.AdamW(parameters, lr=LR)
    size = WORKS[work].batch
    for batch, classes in zip(tokens.split(size), labels.split(size), strict=True):
        loss_of(model, work, batch, classes).backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def final_loss(work: str, folder: Path, weights: Path) -> float:
    """The loss of final weights on every client's first batch."""
    import torch
    from safetensors.torch import load_file

    model = load_model(work, folder).eval()
    load_weights(trainable(model), load_file(weights))
    tokens, labels = load_rows(folder)
    size = WORKS[work].batch
    with torch.no_grad():
        losses = [
            loss_of(model, work, t[:size], c[:size]) for t, c in zip(tokens, labels, strict=True)
        ]
    return float(torch.stack(losses).mean())


# ---------------------------------------------------------------- the folder


def prepare(work: str, folder: Path, clients: int, steps: int, model: Path | None = None) -> None:
    """Write the model, the initial weights and the clients' rows."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    size = WORKS[work]
    _save_tokenizer(size.vocabulary, folder)
    built = _classifier(model) if work == "C" else _llama()
    built.save_pretrained(folder)
    adapted = _adapted(work, folder)
    initial = {name: p.detach().clone() for name, p in trainable(adapted).items()}
    save_file(initial, folder / "initial.safetensors")
    tokens = torch.randint(3, size.vocabulary, (clients, steps * size.batch, size.length))
    if work == "G":
        tokens[:, :, -1] = END
    labels = torch.arange(steps * size.batch).remainder(2).repeat(clients, 1)
    save_file({"tokens": tokens, "labels": labels}, folder / "rows.safetensors")


def lora(work: str) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=["query", "value"] if work == "C" else "all-linear",
        task_type="SEQ_CLS" if work == "C" else "CAUSAL_LM",
    )


def _adapted(work: str, folder: Path) -> torch.nn.Module:
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    kind = AutoModelForSequenceClassification if work == "C" else AutoModelForCausalLM
    return get_peft_model(kind.from_pretrained(folder), lora(work))


def _save_tokenizer(vocabulary: int, folder: Path) -> None:
    """One token a word: ``w7`` is the id 7. No special token may begin a word, which would be cut there."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[END]"}
    words = {word: i for i, word in enumerate(special.values())}
    words |= {f"w{i}": i for i in range(len(words), vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def _classifier(folder: Path | None) -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "num_labels": 2}
    if folder is not None:
        return BertForSequenceClassification.from_pretrained(folder, **without)
    shape = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12}
    config = BertConfig(vocab_size=30522, intermediate_size=1536, **shape, **without)
    return BertForSequenceClassification(config)


def _llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORKS["G"].vocabulary,
            hidden_size=288,
            intermediate_size=768,
            num_hidden_layers=6,
            num_attention_heads=6,
            max_position_embeddings=256,
            pad_token_id=0,
            eos_token_id=END,
        )
    )
