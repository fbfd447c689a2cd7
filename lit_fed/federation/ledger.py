"""Who sent how much."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Ledger:
    """Bytes between clients and server, as :attr:`Payload.nbytes <lit_fed.Payload.nbytes>` counts them.

    Attributes:
        rounds: Per round (bytes up, bytes down).
        clients: Per client (bytes up, bytes down) over all rounds.
        before: What clients have downloaded before the round that comes next, to prepare, in bytes.

    Example:
        >>> ledger = Ledger()
        >>> ledger.open_round()
        >>> ledger.record("hospital", up=10, down=4)
        >>> ledger.up, ledger.down, ledger.rounds
        (10, 4, [(10, 4)])
    """

    rounds: list[tuple[int, int]] = field(default_factory=list)
    clients: dict[str, tuple[int, int]] = field(default_factory=dict)
    before: dict[str, int] = field(default_factory=dict)

    @property
    def up(self) -> int:
        """Bytes from clients to the server."""
        return sum(up for up, _ in self.rounds)

    @property
    def down(self) -> int:
        """Bytes from the server to clients."""
        return sum(down for _, down in self.rounds)

    def open_round(self) -> None:
        """Start the count of the next round, with what clients have downloaded to prepare for it."""
        self.rounds.append((0, 0))
        for client, down in self.before.items():
            self._add(client, 0, down)

    def download_before(self, client_id: str, nbytes: int) -> None:
        """A client downloads something to prepare for the round that comes next."""
        self.before[client_id] = nbytes

    def record(self, client_id: str, up: int = 0, down: int = 0) -> None:
        """Add one client's traffic to the open round; what it has downloaded before is not sent to it again."""
        self._add(client_id, up, max(0, down - self.before.get(client_id, 0)))

    def close_round(self) -> None:
        """End the count of a round."""
        self.before = {}

    def _add(self, client_id: str, up: int, down: int) -> None:
        round_up, round_down = self.rounds[-1]
        self.rounds[-1] = (round_up + up, round_down + down)
        client_up, client_down = self.clients.get(client_id, (0, 0))
        self.clients[client_id] = (client_up + up, client_down + down)

    def copy(self) -> Ledger:
        """A ledger that can go on without changing this one."""
        return Ledger(list(self.rounds), dict(self.clients), dict(self.before))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"rounds": self.rounds, "clients": self.clients}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Ledger:
        """Read what :meth:`to_dict` gave, also after a pass through JSON."""
        return cls(
            [(up, down) for up, down in data["rounds"]],
            {k: (up, down) for k, (up, down) in data["clients"].items()},
        )
