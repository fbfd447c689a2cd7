"""A toy run that kills itself at a chosen instant: ``killed_run.py <instant> <model folder> <run folder> [<σ>]``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from lit_fed import atomic_files
from lit_fed.payload import Payload
from lit_fed.privacy import DPSGD
from tests.federation.toy import toy_data, toy_module, toy_trainer

ROUND = 1
SECOND = "round=0002"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KillDuringClient(Callback):
    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        if trainer.current_round == ROUND and module.client.index >= 2 and args[-1] == 1:
            die()


class KillDuringAggregation(Callback):
    def on_aggregate_end(self, trainer: Any, module: Any, updates: Any) -> None:
        if trainer.current_round == ROUND:
            die()


class KillDuringWrite(Callback):
    """Dies when the second round's checkpoint is half on disk: its first file is written, the second not."""

    def on_round_start(self, trainer: Any, module: Any, clients: Any) -> None:
        if trainer.current_round == ROUND:
            save = Payload.save

            def save_and_die(payload: Payload, path: Path) -> None:
                save(payload, path)
                if SECOND in str(path) and path.name == "broadcast.safetensors":
                    die()

            Payload.save = save_and_die  # type: ignore[method-assign]


class KillBeforeRename(Callback):
    """Dies when the second round's checkpoint is written but not yet named."""

    def on_round_start(self, trainer: Any, module: Any, clients: Any) -> None:
        if trainer.current_round == ROUND:
            flush = atomic_files.flush
            atomic_files.flush = lambda path: die() if SECOND in str(path) else flush(path)


INSTANTS = {
    "client": KillDuringClient,
    "aggregation": KillDuringAggregation,
    "write": KillDuringWrite,
    "rename": KillBeforeRename,
}

if __name__ == "__main__":
    instant, model, run, *noise = sys.argv[1:]
    privacy = DPSGD(noise_multiplier=float(noise[0])) if noise else None
    trainer = toy_trainer(Path(run), callbacks=[INSTANTS[instant]()], privacy=privacy)
    trainer.fit(toy_module(Path(model)), toy_data())
