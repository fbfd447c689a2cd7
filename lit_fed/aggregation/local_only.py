"""No aggregation: every client learns alone, which is what a federation has to beat."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lit_fed.aggregation.aggregation import Aggregation
from lit_fed.client import Client
from lit_fed.payload import Payload
from lit_fed.update import Update


class LocalOnly(Aggregation):
    """Nothing is sent and nothing received: each client keeps what it trains, as its private state.

    There is no global model, so that evaluations report the mean, the spread, the worst and the best of
    the clients' own models on the common rows (``clients/<metric>/…``).

    Example:
        >>> from lit_fed import Client
        >>> client = Client("ward-3", index=3, num_samples=120, round=0, rounds=0, steps=0)
        >>> LocalOnly().sends(["lora_A", "lora_B"], client)
        ()
    """

    has_global_model = False

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """The empty payload that was there before."""
        return previous

    def sends(self, names: Sequence[str], client: Client) -> Collection[str]:
        """Nothing."""
        return ()

    def receives(self, names: Sequence[str], client: Client | None) -> Collection[str]:
        """Nothing."""
        return ()
