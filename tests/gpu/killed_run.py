"""A toy run on a device that kills itself: ``killed_run.py <accelerator> <instant> <model folder> <run folder>``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tests.federation.killed_run import INSTANTS
from tests.federation.toy import toy_data, toy_module, toy_trainer

if __name__ == "__main__":
    accelerator, instant, model, run = sys.argv[1:]
    torch.use_deterministic_algorithms(True)
    settings = {"accelerator": accelerator, "devices": 1, "keep_optimizer_state": True}
    trainer = toy_trainer(Path(run), callbacks=[INSTANTS[instant]()], **settings)
    trainer.fit(toy_module(Path(model)), toy_data())
