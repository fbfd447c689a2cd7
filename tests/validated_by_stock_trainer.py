"""Validates a toy language model with a stock Trainer: ``… <devices> <model> <folder>``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lightning.pytorch import Trainer

from lit_fed import FedAvg
from tests.methods.toy_methods import continue_text, lm_data, lm_rows


def main() -> None:
    devices, model, folder = sys.argv[1:]
    module = continue_text(FedAvg, Path(model))
    data = lm_data(validation=lm_rows(8, 1), eval_batch_size=1)
    data.setup()
    assert data.validation is not None
    trainer = Trainer(
        accelerator="cpu",
        devices=int(devices),
        strategy="ddp" if int(devices) > 1 else "auto",
        logger=False,
        enable_progress_bar=False,
        default_root_dir=folder,
    )
    loader = data.dataloader(data.validation, module.tokenizer, batch_size=1)
    (found,) = trainer.validate(module, loader, verbose=False)
    Path(folder, f"{devices}.{trainer.global_rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
