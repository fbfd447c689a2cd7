"""What lasts of a client between its rounds."""

from __future__ import annotations

from dataclasses import dataclass, field

from lit_fed.payload import Payload


@dataclass(frozen=True)
class ClientState:
    """What lasts of a client between its rounds, and never leaves it.

    Attributes:
        steps: Optimizer steps in its whole life.
        rounds: Rounds it has finished.
        private: What its method keeps, such as a private adapter.
        optimizer: Optimizer moments, if the trainer keeps them.
        stage_steps: Optimizer steps of each stage by its name.
        prepared: What its method's ``prepare`` gave before its first round; None where it has not
            prepared yet, or its method does not.
        attachments: What attachments keep of it, one part each.
        privacy: The account of what its noisy gradients have spent, and how many steps without noise it has taken
            since; empty where it has only trained without.
    """

    steps: int = 0
    rounds: int = 0
    private: Payload = field(default_factory=Payload)
    optimizer: Payload = field(default_factory=Payload)
    stage_steps: dict[str, int] = field(default_factory=dict)
    prepared: Payload | None = None
    attachments: Payload = field(default_factory=Payload)
    privacy: Payload = field(default_factory=Payload)
