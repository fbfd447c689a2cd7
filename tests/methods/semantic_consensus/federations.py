"""Small federations by semantic consensus: classifiers that know good from bad words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lit_fed import FederatedTrainer, SemanticConsensus
from lit_fed.data import IIDPartitioner
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_rows, toy_trainer


def consenting(model: Path, **settings: Any) -> SemanticConsensus:
    given: dict[str, Any] = {
        "optimizer": fast_adamw,
        "warmup_rounds": 1,
        "consensus_every": 1,
        "backbone": toy_backbone(model),
    }
    return SemanticConsensus(**given | settings)


def small_data(**settings: Any) -> Any:
    given: dict[str, Any] = {
        "train": toy_rows(48, 0),
        "validation": toy_rows(16, 1),
        "test": toy_rows(16, 2),
        "public": toy_rows(20, 3),
        "num_clients": 3,
        "partitioner": IIDPartitioner(),
    }
    return toy_data(**given | settings)


def fitted(root: Path, module: SemanticConsensus, data: Any = None, **settings: Any) -> Any:
    """A trainer whose clients have all trained in each round."""
    trainer: FederatedTrainer = toy_trainer(
        root, **{"clients_per_round": 1.0, "num_sanity_val_steps": 0} | settings
    )
    trainer.fit(module, small_data() if data is None else data)
    return trainer


def gone_on(root: Path, module: Any, max_rounds: int, data: Any = None) -> Any:
    """A trainer that has gone on with the run of a folder by other settings or data."""
    trainer = toy_trainer(
        root,
        max_rounds=max_rounds,
        clients_per_round=1.0,
        num_sanity_val_steps=0,
        resume_with_changes=True,
    )
    trainer.fit(module, small_data() if data is None else data, ckpt_path="last")
    return trainer


def labels_of(trainer: Any) -> tuple[str, ...]:
    """The last labels; empty where the consensus abstains."""
    found: tuple[str, ...] = trainer.federation.broadcast.parts["labels"].strings["texts"]
    return found


def adapters(trainer: Any) -> dict[str, Any]:
    """What each client trains, by its id."""
    return {id: dict(one.private.tensors) for id, one in trainer.federation.clients.items()}


def consensus_rows(trainer: Any, name: str) -> list[float]:
    """A metric of the server in the rounds that have it."""
    return [row[f"server/{name}"] for row in trainer.federation.history if f"server/{name}" in row]
