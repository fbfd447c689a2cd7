"""FedSD on a toy language model, run as a process: ``<model> <run> <die after n clients>``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lit_fed import FedAvg, FederatedModule, FederatedTrainer, FedSD
from lit_fed.data import FederatedDataModule
from lit_fed.methods.rewriting import NoFilter, Rewriting
from tests.federation.preparation_cases import Dies
from tests.federation.toy import toy_trainer
from tests.methods.toy_methods import continue_text, lm_data

HINT = " the {reference} and"


def rewriting(**settings: Any) -> Rewriting:
    return Rewriting(**{"filter": NoFilter(), "hint": HINT, "max_new_tokens": 6} | settings)


def fit(
    module: FederatedModule,
    run: Path,
    data: FederatedDataModule | None = None,
    ckpt_path: str | None = None,
    **settings: Any,
) -> FederatedTrainer:
    given = {"max_rounds": 2, "clients_per_round": 2, "local_steps": 2}
    trainer = toy_trainer(run, **given | settings)
    trainer.fit(module, data or lm_data(), ckpt_path)
    return trainer


def fedsd(model: Path, **settings: Any) -> FederatedModule:
    return continue_text(FedSD, model, rewriting=rewriting(**settings))


def fedavg(model: Path) -> FederatedModule:
    return continue_text(FedAvg, model)


def main() -> None:
    model, run, after = sys.argv[1:]
    fit(fedsd(Path(model)), Path(run), callbacks=[Dies(int(after))])


if __name__ == "__main__":
    main()
