"""What a client's round starts from and what it ends with, also as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lit_fed.client import Client
from lit_fed.federation.client.client_state import ClientState
from lit_fed.packing import pack, unpack
from lit_fed.payload import Payload
from lit_fed.update import Update


@dataclass(frozen=True)
class ClientRound:
    """A client's round before it begins.

    Attributes:
        client: Who takes part.
        broadcast: What it downloads.
        before: What has lasted of it.
    """

    client: Client
    broadcast: Payload
    before: ClientState

    def to_bytes(self) -> bytes:
        """For another process; see :meth:`from_bytes`."""
        header, blobs = _packed_state(self.before)
        return pack(
            {"client": asdict(self.client), "before": header}, [self.broadcast.to_bytes(), *blobs]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> ClientRound:
        """Read what :meth:`to_bytes` wrote.

        Example:
            >>> start = ClientRound(Client("a", 0, 3, 0, 0, 0), Payload(), ClientState())
            >>> ClientRound.from_bytes(start.to_bytes()) == start
            True
        """
        header, (broadcast, *blobs) = unpack(data)
        before = _unpacked_state(header["before"], blobs)
        return cls(Client(**header["client"]), Payload.from_bytes(broadcast), before)


@dataclass(frozen=True)
class Finished:
    """A client that has done its round: what it sent, and what stays with it."""

    update: Update
    state: ClientState

    def to_bytes(self) -> bytes:
        """For another process; see :meth:`from_bytes`."""
        header, blobs = _packed_state(self.state)
        update = {
            "client_id": self.update.client_id,
            "num_samples": self.update.num_samples,
            "rounds": self.update.rounds,
            "metrics": dict(self.update.metrics),
        }
        return pack({"update": update, "state": header}, [self.update.payload.to_bytes(), *blobs])

    @classmethod
    def from_bytes(cls, data: bytes) -> Finished:
        """Read what :meth:`to_bytes` wrote."""
        header, (upload, *blobs) = unpack(data)
        update = Update(payload=Payload.from_bytes(upload), **header["update"])
        return cls(update, _unpacked_state(header["state"], blobs))


@dataclass(frozen=True)
class Failed:
    """A client that is left out of the round, and why."""

    client: Client
    error: Exception


class FailedElsewhere(RuntimeError):
    """A client's error as another process tells it, in the same words."""


def pack_results(results: Mapping[int, Finished | Failed]) -> bytes:
    """Results by their clients' positions in the round as bytes."""
    entries: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for position, result in results.items():
        if isinstance(result, Failed):
            kind = type(result.error).__name__
            entries.append({"position": position, "error": str(result.error), "kind": kind})
        else:
            entries.append({"position": position})
            blobs.append(result.to_bytes())
    return pack(entries, blobs)


def unpack_results(data: bytes, clients: Sequence[Client]) -> dict[int, Finished | Failed]:
    """Read what :func:`pack_results` wrote.

    Args:
        data: The bytes.
        clients: The round's clients, to which the positions belong.

    Example:
        >>> client = Client("hospital", 0, 3, round=0, rounds=0, steps=0)
        >>> packed = pack_results({0: Failed(client, ValueError("no rows"))})
        >>> unpack_results(packed, [client])[0].error
        FailedElsewhere('no rows')
    """
    entries, blobs = unpack(data)
    finished = iter(blobs)
    results: dict[int, Finished | Failed] = {}
    for entry in entries:
        position = entry["position"]
        if "error" in entry:
            error = FailedElsewhere(entry["error"])
            error.add_note(
                f"a {entry['kind']} in the process that trained client {clients[position].id!r}"
            )
            results[position] = Failed(clients[position], error)
        else:
            results[position] = Finished.from_bytes(next(finished))
    return results


def _packed_state(state: ClientState) -> tuple[dict[str, Any], list[bytes]]:
    header = {
        "steps": state.steps,
        "rounds": state.rounds,
        "stage_steps": state.stage_steps,
        "prepared": state.prepared is not None,
    }
    payloads = [state.private, state.optimizer, state.attachments]
    if state.prepared is not None:
        payloads.append(state.prepared)
    return header, [payload.to_bytes() for payload in payloads]


def _unpacked_state(header: dict[str, Any], blobs: Sequence[bytes]) -> ClientState:
    private, optimizer, attachments, *prepared = (Payload.from_bytes(blob) for blob in blobs)
    return ClientState(
        header["steps"],
        header["rounds"],
        private,
        optimizer,
        header["stage_steps"],
        prepared[0] if header["prepared"] else None,
        attachments,
    )
