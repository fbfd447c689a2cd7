"""Clients at once on a GPU: tokens a second, share of the measured matrix-product peak, memory.

``python -m pytest -m benchmark -s tests/benchmarks/test_gpu.py``. Llamas of 1B and 7B shape with random weights in
bfloat16, LoRA r 8 on all linear layers, one row of 512 tokens a step and client, which is what leaves a GPU idle.
``LIT_FED_GPU_SHAPES=tiny`` tries the programs on the CPU; its figures mean nothing.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from transformers import LlamaConfig, LlamaForCausalLM

from lit_fed import FedAvg
from lit_fed.backbones import CausalLM
from lit_fed.federation import ClientExecution, SequentialClients, VectorizedClients
from tests.benchmarks import work
from tests.benchmarks.work import lora, save_model, trainer

SHAPES: dict[str, dict[str, int]] = {
    "1B": {
        "hidden_size": 2048,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "intermediate_size": 8192,
    },
    "7B": {
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 11008,
    },
    "tiny": {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "intermediate_size": 128,
    },
}
CHOSEN = os.environ.get("LIT_FED_GPU_SHAPES", "1B,7B").split(",")
AT_ONCE, LENGTH, STEPS, ROUNDS = (1, 4, 16, 64), 512, 4, 2
CUDA = torch.cuda.is_available()


class Clock(Callback):
    """Seconds of the last round's training; the first one warms up."""

    def on_round_start(self, trainer: Any, module: Any, clients: Any) -> None:
        synchronise()
        if CUDA:
            torch.cuda.reset_peak_memory_stats()
        self.started = time.perf_counter()

    def on_client_end(self, trainer: Any, module: Any, update: Any) -> None:
        synchronise()
        self.seconds = time.perf_counter() - self.started


def synchronise() -> None:
    if CUDA:
        torch.cuda.synchronize()


def peak_flops(size: int) -> float:
    """Floating-point operations a second of large bfloat16 matrix products, measured."""
    device = "cuda" if CUDA else "cpu"
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    synchronise()
    started = time.perf_counter()
    for _ in range(10):
        a @ b
    synchronise()
    return 10 * 2 * size**3 / (time.perf_counter() - started)


def save_shape(folder: Path, shape: str) -> Path:
    """A Llama of random weights with the benchmarks' tokenizer."""
    save_model(folder)
    config = LlamaConfig(
        vocab_size=work.VOCABULARY,
        max_position_embeddings=LENGTH,
        pad_token_id=0,
        eos_token_id=2,
        **SHAPES[shape],
    )
    with torch.device("cuda" if CUDA else "cpu"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder)
    return folder


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not CUDA and CHOSEN != ["tiny"], reason="needs a GPU")
@pytest.mark.parametrize("shape", CHOSEN)
def test_clients_at_once_on_a_gpu(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "LENGTH", LENGTH)
    monkeypatch.setattr(work, "BATCH", 1)
    folder = save_shape(tmp_path / "model", shape)
    backbone = CausalLM(str(folder), peft=lora(), dtype="bfloat16")
    frozen = sum(p.numel() for p in backbone.parameters() if not p.requires_grad)
    peak = peak_flops(8192 if CUDA else 256)
    name = torch.cuda.get_device_name() if CUDA else "CPU"
    print(
        f"\n{shape} on {name}: {frozen:,} frozen weights, peak {peak / 1e12:.1f} Tflop/s measured"
    )
    print("| clients at once | tokens/s | share of peak | GB | beside one after the other |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    alone = 0.0
    for number in AT_ONCE:
        executions: list[ClientExecution] = [VectorizedClients(number)]
        if number == AT_ONCE[0]:
            executions.insert(0, SequentialClients())
        for execution in executions:
            clock = Clock()
            clients = max(number, 4)
            try:
                trainer(
                    tmp_path / f"{type(execution).__name__}{number}",
                    ROUNDS,
                    accelerator="auto",
                    precision="bf16-true",
                    local_steps=STEPS,
                    execution=execution,
                    callbacks=[clock],
                    enable_checkpointing=False,
                    loggers=False,
                ).fit(
                    FedAvg(backbone, optimizer=work.adamw, warmup_steps=0),
                    work.data(clients, STEPS),
                )
            except RuntimeError as error:  # of a client, if not of the rounds themselves
                if "out of memory" not in str(error):
                    raise
                print(f"| {number} | – | – | {str(error)[:60]} | – |")
                continue
            tokens = clients * STEPS * LENGTH / clock.seconds
            # forward, and backward through frozen weights, whose own gradient is not needed
            share = 4 * frozen * tokens / peak
            memory = torch.cuda.max_memory_allocated() / 1e9 if CUDA else float("nan")
            if isinstance(execution, SequentialClients):
                alone, label = tokens, "one after the other"
            else:
                label = str(number)
            print(
                f"| {label} | {tokens:,.0f} | {share:.1%} | {memory:.1f} | {tokens / alone:.2f} |"
            )
    assert alone > 0
