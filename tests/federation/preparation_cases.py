"""A federation whose clients prepare, run as a process: ``<model> <run> <devices> <die after n clients>``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from lightning.pytorch import Callback
from torch import Tensor

from lit_fed import FedAvg, FederatedTrainer, Payload
from lit_fed.data import FederatedDataModule
from lit_fed.federation import DistributedClients
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_trainer


class Prepares(FedAvg):
    """Clients draw a number and embed their rows before the first round, with the model as it was built."""

    made: list[str]
    seen: dict[str, int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.made, self.seen = [], {}

    @torch.no_grad()
    def prepare(self, rows: Dataset) -> Payload:
        if self.client.id == "client-3" and os.environ.get("CLIENT_3_FAILS"):
            raise RuntimeError("nothing to prepare")
        self.made.append(self.client.id)
        self.seen[self.client.id] = len(rows)
        logits = torch.cat([self(batch).logits for batch in self.batches(rows)])
        return Payload({"mean": logits.mean(0), "drawn": torch.rand(1)}, {"said": ["prepared"]})

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return loss * (1 + self.prepared.tensors["drawn"].sum())


class Dies(Callback):
    """Kills the process when so many clients have prepared."""

    def __init__(self, after: int) -> None:
        self.left = after

    def on_client_prepared(self, trainer: Any, module: Any, client: Any, prepared: Payload) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)


def fit(
    model: Path,
    run: Path,
    data: FederatedDataModule | None = None,
    ckpt_path: str | None = None,
    **settings: Any,
) -> tuple[FederatedTrainer, Prepares]:
    module = Prepares(toy_backbone(model, 0.1), optimizer=fast_adamw, warmup_steps=0)
    trainer = toy_trainer(run, **{"max_rounds": 2, "clients_per_round": 2} | settings)
    trainer.fit(module, data or toy_data(), ckpt_path)
    return trainer, module


def main() -> None:
    model, run, devices, after = sys.argv[1:]
    execution = DistributedClients() if devices != "1" else None
    callbacks = [Dies(int(after))] if after != "0" else []
    fit(Path(model), Path(run), execution=execution, devices=int(devices), callbacks=callbacks)


if __name__ == "__main__":
    main()
