"""The settings of a client's local training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LocalSettings:
    """What a client's round needs to know of how to train; see :class:`~lit_fed.FederatedTrainer`.

    Attributes:
        seed: Of the run; every round of a client draws from (seed, round, client).
        local_epochs: Passes of a client over its rows; None only where there are steps.
        local_steps: Optimizer steps; if set, they replace epochs.
        accumulate_grad_batches: Batches whose gradients make one optimizer step.
        gradient_clip_val: Bound of the gradient before a step. None: no clipping.
        gradient_clip_algorithm: ``norm`` (of all gradients together) or ``value`` (of each).
        limit_train_batches: Batches of an epoch: an integer is a count, a float a fraction, at least one batch.
        limit_val_batches: Batches of a validation.
        validate_clients: Whether a client's model is validated after its training.
        check_val_every_n_rounds: Rounds between two validations of clients' own models, where nobody needs more.
        keep_optimizer_state: Whether optimizer moments last until the client's next round.
        max_rounds: Rounds of the federation, in each of which a client may take part.
        fast_dev_run: Batches of a trial run, in which a client has the first rows alone, as many as these hold; 0 if it
            is none.
    """

    seed: int = 0
    local_epochs: int | None = 1
    local_steps: int | None = None
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = 1.0
    gradient_clip_algorithm: Literal["norm", "value"] = "norm"
    limit_train_batches: int | float = 1.0
    limit_val_batches: int | float = 1.0
    validate_clients: bool = False
    check_val_every_n_rounds: int = 1
    keep_optimizer_state: bool = False
    max_rounds: int = 1
    fast_dev_run: int = 0
