"""The weight of each client in an average."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from lit_fed.update import Update

Weighting = Literal["size", "uniform", "validation", "rounds"]


def client_weights(
    updates: Sequence[Update], by: Weighting = "size", score: str = "val/accuracy"
) -> list[float]:
    """Client weights w_k ≥ 0 with Σ w_k = 1.

    Args:
        updates: The round's updates.
        by: ``size`` (n_k, as in FedAvg), ``uniform``, ``validation`` (the client's validation score)
            or ``rounds`` (rounds the client has taken part in).
        score: The client metric that is the validation score, larger is better.

    Returns:
        One weight per update. Scores that are all 0 say nothing, so they give equal weights.

    Raises:
        ValueError: If ``updates`` is empty, or a client has no such score or one that is negative or not finite.

    Example:
        >>> from lit_fed import Payload
        >>> client_weights([Update("a", Payload(), 30), Update("b", Payload(), 10)])
        [0.75, 0.25]
    """
    if not updates:
        raise ValueError("updates are expected from at least one client, but got none")
    match by:
        case "size":
            raw = [float(u.num_samples) for u in updates]
        case "uniform":
            raw = [1.0] * len(updates)
        case "rounds":
            raw = [float(u.rounds) for u in updates]
        case "validation":
            raw = [_score(u, score) for u in updates]
        case _:
            raise ValueError(f"weighting is expected to be one of {Weighting}, but got {by!r}")
    total = sum(raw)
    return [r / total for r in raw] if total > 0 else [1 / len(raw)] * len(raw)


def _score(update: Update, score: str) -> float:
    if score not in update.metrics:
        raise ValueError(
            f"weighting by validation expects every client to report {score!r}, but client "
            f"{update.client_id!r} reports {sorted(update.metrics)}; set trainer.validate_clients to true"
        )
    if not 0 <= update.metrics[score] < math.inf:
        raise ValueError(
            f"validation score {score!r} is expected to be finite and at least 0, but client {update.client_id!r} "
            f"reports {update.metrics[score]}"
        )
    return update.metrics[score]
