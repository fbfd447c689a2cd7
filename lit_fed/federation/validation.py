"""What the trainer's settings must fulfil, alone and with the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lit_fed.aggregation import Aggregation
from lit_fed.federation.sampling import clients_per_round

if TYPE_CHECKING:
    from lit_fed.data import FederatedDataModule
    from lit_fed.federation.trainer import FederatedTrainer
    from lit_fed.module import FederatedModule


def check_settings(trainer: FederatedTrainer) -> None:
    """Check every number the trainer was given.

    Raises:
        ValueError: If one is out of range, naming the setting, what is expected and what came.
    """
    least = {
        "max_rounds": 1,
        "rounds_per_task": 1,
        "local_epochs": 1,
        "local_steps": 1,
        "accumulate_grad_batches": 1,
        "min_clients": 0,
        "check_val_every_n_rounds": 1,
        "num_sanity_val_steps": 0,
        "seed": 0,
        "fast_dev_run": 0,
        "client_state_mb": 0,
    }
    for name, bound in least.items():
        value = getattr(trainer, name)
        if value is not None and value < bound:
            raise ValueError(
                f"`trainer.{name}` is expected to be at least {bound}, but got {value}"
            )
    if trainer.compile and not trainer.execution.takes_compiled:
        raise ValueError(
            f"`trainer.compile` is expected to be false with `trainer.execution` "
            f"{type(trainer.execution).__name__}, which reaches into the layers"
        )
    if trainer.gradient_clip_val is not None and trainer.gradient_clip_val <= 0:
        raise ValueError(
            f"`trainer.gradient_clip_val` is expected to be above 0 or null, but got {trainer.gradient_clip_val}"
        )
    for split in ("train", "val", "test", "predict"):
        limit = getattr(trainer, f"limit_{split}_batches")
        if limit < 0 or (isinstance(limit, float) and limit > 1):
            raise ValueError(
                f"`trainer.limit_{split}_batches` is expected to be a count of at least 0 or a fraction in [0, 1], "
                f"but got {limit}"
            )


def check_federation(trainer: FederatedTrainer, data: FederatedDataModule) -> None:
    """Check the settings that depend on the data.

    Raises:
        ValueError: If a round asks for more clients than there are, clients are to be validated
            and have nothing to be validated on, or there are rounds for tasks, but no tasks.
    """
    if trainer.rounds_per_task is not None:
        if data.tasks is None:
            raise ValueError(
                f"`trainer.rounds_per_task` is {trainer.rounds_per_task}, which expects a sequence of "
                "tasks, but `data.tasks` is null"
            )
        for task in data.tasks:
            if not any(len(client.rows) for client in data.clients_in(task)):
                raise ValueError(
                    f"`data.tasks` names {task!r}, of which no client has rows to train on"
                )
    clients_per_round(trainer.clients_per_round, len(data.clients))
    unvalidated = data.validation is None and any(c.validation is None for c in data.clients)
    if trainer.validate_clients and unvalidated:
        raise ValueError(
            "`trainer.validate_clients` expects validation rows, but `data.validation` is null and "
            "`data.validation_fraction` and `data.client_validation_fraction` are 0"
        )


def check_method(trainer: FederatedTrainer, module: FederatedModule) -> None:
    """Check the settings that depend on the method.

    Raises:
        ValueError: If the aggregation needs a validation of the clients and there is none.
    """
    rule = getattr(module, "aggregation", None)
    if isinstance(rule, Aggregation) and rule.needs_validation and not trainer.validate_clients:
        raise ValueError(
            f"`model.aggregation` {type(rule).__name__} takes the clients' validation scores, which "
            "expects `trainer.validate_clients` to be true"
        )
