"""A callback by which one process of a run dies, without a word to the others."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback


class Dies(Callback):
    """SIGKILL for one process in a client of the second round, when the first one's checkpoint has been written.

    Args:
        rank: Of the process.
        others_train: Seconds for which the others stay in their clients.
    """

    def __init__(self, rank: int, others_train: float = 0.0) -> None:
        self.rank = rank
        self.others_train = others_train

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        if trainer.current_round != 1:
            return
        if trainer.fabric.global_rank == self.rank:
            # it is written while the second round trains
            first = Path(trainer.log_dir) / "checkpoints" / "round=0001"
            while not first.is_dir():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGKILL)
        end = time.monotonic() + self.others_train
        while time.monotonic() < end:
            time.sleep(0.1)
