"""A federation of FedSDR, run as a process: ``<model> <run> <devices> <die after n clients have prepared>``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lit_fed import FederatedTrainer, FedSDR
from lit_fed.federation import DistributedClients
from tests.federation.preparation_cases import Dies
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_trainer


def fit(model: Path, run: Path, ckpt_path: str | None = None, **settings: Any) -> FederatedTrainer:
    module = FedSDR(toy_backbone(model, 0.1), optimizer=fast_adamw, private_steps=2, shared_steps=2)
    given = {"max_rounds": 2, "clients_per_round": 3, "keep_optimizer_state": True} | settings
    trainer = toy_trainer(run, **given)
    trainer.fit(module, toy_data(), ckpt_path)
    return trainer


def main() -> None:
    model, run, devices, after = sys.argv[1:]
    execution = DistributedClients() if devices != "1" else None
    callbacks = [Dies(int(after))] if after != "0" else []
    fit(Path(model), Path(run), execution=execution, devices=int(devices), callbacks=callbacks)


if __name__ == "__main__":
    main()
