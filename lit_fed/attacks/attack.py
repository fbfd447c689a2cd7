"""What all attacks share: which clients are malicious."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn

from lit_fed.attachment import Attachment
from lit_fed.client import Client
from lit_fed.limits import is_number, require_at_least, require_none_or_at_least


class Attack(Attachment, ABC):
    """Some clients are malicious, or something of theirs has been tampered with.

    Who they are is in the run's summary, with the attack's settings, so that no poisoned run is taken for a clean one.

    Args:
        clients: Ids of the malicious clients. None, as ``count``: all are, if the attack can be spread over all.
        count: How many of all clients are malicious, drawn by the seed, in place of ``clients``: an integer
            is a count, a float a share, of which at least one client is left.
        seed: Of the draw, and of what is random in an attack.
        until: Rounds in which the attack lasts, from the first on. None: all.

    Raises:
        ValueError: If both ``clients`` and ``count`` are given, ``clients`` are none or a text, or a number is out of
            range or none.
    """

    def __init__(
        self,
        clients: Sequence[str] | None = None,
        count: int | float | None = None,
        seed: int = 0,
        until: int | None = None,
    ) -> None:
        super().__init__(clients)
        name = f"trainer.attachments {type(self).__name__}"
        if clients is not None and count is not None:
            raise ValueError(
                f"{self.setting} expects either `clients` or `count`, but got both of them"
            )
        if count is not None and not is_number(count):
            raise ValueError(
                f"{self.setting} expects `count` to be a number of clients or a share of them, but got {count!r}"
            )
        if isinstance(count, float) and not 0 < count <= 1:
            raise ValueError(
                f"{self.setting} expects `count` as a share to be above 0 and at most 1, but got {count}"
            )
        if isinstance(count, int):
            require_at_least(f"{name}.count", count, 1)
        self.count = count
        self.seed = require_at_least(f"{name}.seed", seed, 0)
        self.until = require_none_or_at_least(f"{name}.until", until, 1)

    def acts_on(self, client: Client) -> bool:
        """Whether the client is malicious, and the attack lasts still."""
        return super().acts_on(client) and (self.until is None or client.round < self.until)

    @property
    def setting(self) -> str:
        """How an error calls it."""
        return f"`trainer.attachments` {type(self).__name__}"

    def setup(self, clients: Sequence[str]) -> None:
        """Draw who is malicious, where that is not given.

        Raises:
            ValueError: If there are fewer clients than are to be drawn.
        """
        if self.count is None:
            return
        number = self.count
        if isinstance(number, float):
            number = max(1, round(number * len(clients)))
        if number > len(clients):
            raise ValueError(
                f"{self.setting} expects `count` to be at most the {len(clients)} clients there are, but got {number}"
            )
        if number == len(clients):
            rank_zero_warn(
                f"{self.setting} makes all {number} clients malicious: of fewer there is something to defend"
            )
        drawn = np.random.default_rng(self.seed).choice(len(clients), number, replace=False)
        self.clients = frozenset(clients[i] for i in drawn)
