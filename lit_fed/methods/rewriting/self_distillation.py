"""The base class of what clients make of their targets by the model itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from lit_fed.limits import require_none_or_at_least
from lit_fed.payload import Payload

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.module import FederatedModule


class SelfDistillation(ABC):
    """What a client makes of its rows' targets by the model that it has downloaded, before it trains on them.

    The ``rewriting`` argument of every method that averages weights. What it makes stays with the client.

    Args:
        refresh_every: Every how many rounds all clients do it again, by the global model of that moment. None: once,
            by the initial one; a client that comes later, by that of the moment.

    Raises:
        ValueError: If ``refresh_every`` is below 1.
    """

    def __init__(self, refresh_every: int | None = None) -> None:
        self.refresh_every = require_none_or_at_least(
            "model.rewriting.refresh_every", refresh_every, 1
        )

    @abstractmethod
    def check(self, module: FederatedModule) -> None:
        """Say before training what it needs of the model and the data and is not there.

        Args:
            module: The method, with its data.

        Raises:
            ConfigurationError: If something is missing.
        """

    @abstractmethod
    def prepare(self, module: FederatedModule, rows: Dataset) -> Payload:
        """Client: make the targets.

        Args:
            module: The method as the client, which has downloaded the broadcast.
            rows: The client's rows.

        Returns:
            What :meth:`rows` and :meth:`soft_targets` need; a payload without parts.
        """

    # Not abstract: what some make can always be trained on.
    def check_prepared(  # noqa: B027
        self, prepared: Mapping[str, Payload]
    ) -> None:
        """Say before training what of that nobody can train on. Default: nothing.

        Args:
            prepared: What clients have made, by their ids.

        Raises:
            ConfigurationError: If nobody can.
        """

    def rows(self, module: FederatedModule, rows: Dataset, prepared: Payload) -> Dataset:
        """Client: its rows with the targets that it has made. Default: the rows as they are.

        Args:
            module: The method as the client.
            rows: The client's rows, or some of them.
            prepared: What :meth:`prepare` gave.
        """
        return rows

    def soft_targets(self, batch: Mapping[str, Tensor], prepared: Payload) -> Tensor | None:
        """Client: probabilities [B, C] in the place of a batch's labels. Default: None, its labels count.

        Args:
            batch: With the rows' ids ``index`` [B].
            prepared: What :meth:`prepare` gave.
        """
        return None

    def metrics(self, prepared: Payload) -> dict[str, float]:
        """Client: what is to be logged of what it has made, by names such as ``rewriting/…``. Default: nothing.

        Args:
            prepared: What :meth:`prepare` gave.
        """
        return {}
