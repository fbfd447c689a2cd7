"""Time and memory of one round of many clients: prints one line of JSON.

``python -m tests.benchmarks.round_of_clients <clients> <model> <run> [--execution VectorizedClients]
[--clients-at-once 8] [--keep-moments] [--client-state-mb 1]``
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from lightning import seed_everything
from lightning.pytorch import Callback
from peft import LoraConfig

from lit_fed import FedAvg, FederatedTrainer, federation
from lit_fed.backbones import SequenceClassifier
from lit_fed.data import ClassificationEncoding, FederatedDataModule, IIDPartitioner

VOCABULARY, LENGTH, BATCH, STEPS = 200, 16, 4, 2


class Clock(Callback):
    """When each round began and ended, and what lies in files after the last one."""

    def __init__(self) -> None:
        self.began: list[float] = []
        self.ended: list[float] = []
        self.spilled = 0

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        # 5: the peak begins anew, for what loading the libraries took for a moment hides the clients.
        Path("/proc/self/clear_refs").write_text("5")

    def on_round_start(self, trainer: Any, module: Any, clients: Any) -> None:
        self.began.append(time.perf_counter())

    def on_aggregate_end(self, trainer: Any, module: Any, updates: Any) -> None:
        self.ended.append(time.perf_counter())

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        files = (trainer.log_dir / ".client_states").glob("*")
        self.spilled = sum(file.stat().st_size for file in files)


def rows(clients: int) -> Dataset:
    """Random texts, ``STEPS`` batches for each client."""
    tokens = np.random.default_rng(0).integers(0, VOCABULARY, (clients * STEPS * BATCH, LENGTH))
    texts = [" ".join(f"w{t}" for t in row) for row in tokens]
    return Dataset.from_dict({"text": texts, "label": [i % 2 for i in range(len(texts))]})


def peak_bytes() -> int:
    """The most memory since the fit's start; resource's figure knows no start."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("clients", type=int)
    options.add_argument("model")
    options.add_argument("run")
    options.add_argument("--execution", default="SequentialClients")
    options.add_argument("--clients-at-once", type=int)
    options.add_argument("--keep-moments", action="store_true")
    options.add_argument("--client-state-mb", type=float)
    given = options.parse_args()

    torch.set_num_threads(1)
    seed_everything(0, verbose=False)
    settings = {"clients_at_once": given.clients_at_once} if given.clients_at_once else {}
    clock = Clock()
    trainer = FederatedTrainer(
        max_rounds=2,  # the first one warms up
        local_steps=STEPS,
        seed=0,
        accelerator="cpu",
        execution=getattr(federation, given.execution)(**settings),
        keep_optimizer_state=given.keep_moments,
        client_state_mb=given.client_state_mb,
        callbacks=[clock],
        loggers=False,
        default_root_dir=given.run,
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    peft = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"])
    method = FedAvg(
        SequenceClassifier(given.model, peft=peft),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-3),
        warmup_steps=0,
    )
    adapter = sum(p.numel() * p.element_size() for p in method.backbone.trainable().values())
    data = FederatedDataModule(
        train=rows(given.clients),
        encoding=ClassificationEncoding("text", text_pair=None),
        partitioner=IIDPartitioner(),
        num_clients=given.clients,
        batch_size=BATCH,
        max_length=LENGTH,
        validation_fraction=0.0,
        seed=0,
    )
    trainer.fit(method, data)
    result = {
        "seconds": clock.ended[1] - clock.began[1],
        "peak": peak_bytes(),
        "adapter": adapter,
        "spilled": clock.spilled,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
