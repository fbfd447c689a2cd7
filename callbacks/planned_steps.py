"""How many optimizer steps a federation plans for a client, before any is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from lit_fed.federation.client.local_batches import limited, steps_and_epochs
from lit_fed.federation.client.local_settings import LocalSettings
from lit_fed.federation.sampling import clients_per_round
from lit_fed.stage import Stage


def planned_steps(
    stage: Stage,
    settings: LocalSettings,
    batch_size: int,
    phases: Sequence[tuple[int, Mapping[str, int]]],
    sampled: int | float,
) -> int:
    """The optimizer steps of a stage that the client with most of them is expected to take in a run.

    Where a round samples clients, each is expected in its share of the rounds. The stage is taken to
    train on the client's own rows.

    Args:
        stage: The stage.
        settings: How much is trained.
        batch_size: Rows of a batch.
        phases: Of each task, or of the whole run, its rounds and each client's rows.
        sampled: The trainer's ``clients_per_round``.

    Example:
        >>> settings = LocalSettings(local_epochs=2, accumulate_grad_batches=2)
        >>> planned_steps(Stage("train"), settings, 8, [(10, {"a": 24, "b": 7})], 0.5)
        20
        >>> planned_steps(Stage("train", local_steps=3), settings, 8, [(2, {"a": 24}), (2, {"a": 8})], 1)
        12
    """
    steps, epochs = steps_and_epochs(stage, settings)
    planned: dict[str, float] = {}
    for rounds, rows in phases:
        present = {client: count for client, count in rows.items() if count}
        if isinstance(sampled, int):
            share = min(1.0, sampled / len(present))
        else:
            share = clients_per_round(sampled, len(present)) / len(present)
        for client, count in present.items():
            batches = limited(math.ceil(count / batch_size), settings.limit_train_batches)
            in_epochs = math.ceil(batches / settings.accumulate_grad_batches) * (epochs or 0)
            own = in_epochs if steps is None else steps
            planned[client] = planned.get(client, 0.0) + own * rounds * share
    return math.ceil(max(planned.values(), default=0.0))
