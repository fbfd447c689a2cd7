"""A client's identity: what a server knows of it, and a method while it is that client."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Client:
    """Who a :class:`~lit_fed.FederatedModule` is at the moment.

    Its rows are not here: only the client has them (:class:`~lit_fed.data.ClientData`).

    Attributes:
        id: Name of the client, unique in the federation.
        index: Its position among all clients.
        num_samples: Rows it holds, the n_k of federated averaging.
        round: The round under way, counted from 0.
        rounds: Rounds it has finished before this one.
        steps: Optimizer steps it has taken in its whole life, those of this round included.
        stage_steps: The same for each stage by its name.
        task: The task under way, where the trainer goes through a sequence of them: its rows and
            `num_samples` are of this task alone.
        group: With which other clients its figures are reported, see ``data.client_groups``.

    Example:
        >>> Client("hospital", index=0, num_samples=120, round=3, rounds=2, steps=40).num_samples
        120
    """

    id: str
    index: int
    num_samples: int
    round: int
    rounds: int
    steps: int
    stage_steps: dict[str, int] = field(default_factory=dict)
    task: str | None = None
    group: str | None = None
