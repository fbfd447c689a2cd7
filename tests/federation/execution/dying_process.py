"""A callback by which one process of a run dies, without a word to the others."""

from __future__ import annotations

import os
import signal
from typing import Any

from lightning.pytorch import Callback


class Dies(Callback):
    """SIGKILL for one process in the middle of a client of the second round."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        if trainer.current_round == 1 and trainer.fabric.global_rank == self.rank:
            os.kill(os.getpid(), signal.SIGKILL)
