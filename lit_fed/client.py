"""A client of the federation, as a method sees it while it is that client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass
class Client:
    """Who a :class:`~lit_fed.FederatedModule` is at the moment.

    Attributes:
        id: Name of the client, unique in the federation.
        index: Its position among all clients.
        num_samples: Rows it holds, the n_k of federated averaging.
        round: The round under way, counted from 0.
        rounds: Rounds it has finished before this one.
        steps: Optimizer steps it has taken in its whole life, those of this round included.
        rows: Its training rows.
        validation: Its own held-out rows, if it has any.
        task: The task under way, where the trainer goes through a sequence of them: `rows`,
            `num_samples` and `validation` are of this task alone.
    """

    id: str
    index: int
    num_samples: int
    round: int
    rounds: int
    steps: int
    rows: Dataset
    validation: Dataset | None = None
    task: str | None = None
