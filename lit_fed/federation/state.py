"""What a federation is between two rounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.ledger import Ledger
from lit_fed.payload import Payload


@dataclass(frozen=True)
class FederationState:
    """Everything a run needs to go on; the trainer replaces it whole when a round is done.

    Attributes:
        round: Rounds finished.
        broadcast: What the next round's clients download.
        server: What the method keeps on the server.
        clients: The clients that have taken part, by id.
        sampler: The sampler's own state.
        ledger: Bytes so far.
        history: One row of metrics per round.
        failures: How often each client was left out of a round.
        changes: What was changed on purpose where the run went on: ``round``, ``setting``, ``before`` and
            ``now`` of each.
        reported: The last round that has been published. It is the one before the last finished one where a run was
            broken off in between.
        callbacks: States of the callbacks by their ``state_key``: tensors and what JSON takes.
    """

    round: int
    broadcast: Payload
    server: Payload = field(default_factory=Payload)
    clients: dict[str, ClientState] = field(default_factory=dict)
    sampler: dict[str, Any] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    history: list[dict[str, float]] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    changes: list[dict[str, Any]] = field(default_factory=list)
    reported: int = 0
    callbacks: dict[str, dict[str, Any]] = field(default_factory=dict)
