"""The weight of each client in an average."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from lit_fed.update import Update

Weighting = Literal["size", "uniform", "validation", "rounds"]


def require_weighting(by: Weighting) -> Weighting:
    """A weighting that there is.

    Args:
        by: As in :func:`client_weights`.

    Raises:
        ValueError: If there is no such.

    Example:
        >>> require_weighting("sizes")
        Traceback (most recent call last):
        ValueError: `model.aggregation.weights` is expected to be size, uniform, validation or rounds, but got 'sizes'
    """
    if by not in get_args(Weighting):
        raise _unknown(by)
    return by


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
        One weight per update.

    Raises:
        ValueError: If ``updates`` is empty, what the weights follow from is 0 for all clients, or a client has no such
            score or one that is negative or not finite.

    Example:
        >>> from lit_fed import Payload
        >>> client_weights([Update("a", Payload(), 30), Update("b", Payload(), 10)])
        [0.75, 0.25]
    """
    if not updates:
        raise ValueError("updates are expected from at least one client, but got none")
    raw = [client_weight(update, by, score) for update in updates]
    total = sum(raw)
    if total <= 0:
        what = {"size": "sizes", "rounds": "rounds taken part in"}.get(by, f"scores {score!r}")
        raise ValueError(
            f"client weights are expected to have a sum above 0, but the {what} of all {len(updates)} clients are 0; "
            "set `model.aggregation.weights` to uniform, or follow another score"
        )
    return [r / total for r in raw]


def client_weight(update: Update, by: Weighting = "size", score: str = "val/accuracy") -> float:
    """What a client's weight is proportional to.

    Args:
        update: The client's.
        by: As in :func:`client_weights`.
        score: As in :func:`client_weights`.

    Returns:
        A number of at least 0.

    Raises:
        ValueError: If the client has no such score, or what its weight follows from is negative or not finite.

    Example:
        >>> from lit_fed import Payload
        >>> client_weight(Update("a", Payload(), 30))
        30.0
    """
    match by:
        case "size":
            raw = float(update.num_samples)
        case "uniform":
            raw = 1.0
        case "rounds":
            raw = float(update.rounds)
        case "validation":
            raw = _score(update, score)
        case _:
            raise _unknown(by)
    if not 0 <= raw < math.inf:
        what = f"validation score {score!r}" if by == "validation" else by
        raise ValueError(
            f"{what} is expected to be finite and at least 0, but client {update.client_id!r} reports {raw}"
        )
    return raw


def _unknown(by: object) -> ValueError:
    *some, last = get_args(Weighting)
    return ValueError(
        f"`model.aggregation.weights` is expected to be {', '.join(some)} or {last}, but got {by!r}"
    )


def _score(update: Update, score: str) -> float:
    if score not in update.metrics:
        raise ValueError(
            f"weighting by validation expects every client to report {score!r}, but client "
            f"{update.client_id!r} reports {sorted(update.metrics)}; set trainer.validate_clients to true, and "
            "`model.aggregation.score` to one that is then reported"
        )
    return update.metrics[score]
