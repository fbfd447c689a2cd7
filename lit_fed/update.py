"""Update: what the server receives from one client in one round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lit_fed.payload import Payload


@dataclass(frozen=True)
class Update:
    """A client's upload with what the server knows of its sender.

    Attributes:
        client_id: Who sent it.
        payload: What was sent.
        num_samples: Rows the client trained on, n_k.
        rounds: Rounds the client has taken part in, this one included.
        metrics: What the client logged: means of its training metrics and, where clients are
            validated, of its validation metrics.
    """

    client_id: str
    payload: Payload
    num_samples: int
    rounds: int = 1
    metrics: Mapping[str, float] = field(default_factory=dict)
