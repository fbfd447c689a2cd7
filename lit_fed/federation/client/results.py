"""What a client's round starts from and what it ends with, also as bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import UnionType
from typing import Any, Final

from lit_fed.client import Client
from lit_fed.configuration_error import ConfigurationError
from lit_fed.federation.client.client_state import ClientState
from lit_fed.packing import fields, pack, unpack
from lit_fed.payload import Payload
from lit_fed.update import Update

_CLIENT: Final[dict[str, type | UnionType]] = {
    "id": str,
    "index": int,
    "num_samples": int,
    "round": int,
    "rounds": int,
    "steps": int,
    "stage_steps": dict,
    "task": str | None,
    "group": str | None,
}
_UPDATE: Final[dict[str, type | UnionType]] = {
    "client_id": str,
    "num_samples": int,
    "rounds": int,
    "metrics": dict,
}
_STATE: Final[dict[str, type | UnionType]] = {
    "steps": int,
    "rounds": int,
    "stage_steps": dict,
    "prepared": bool,
}


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

        Raises:
            ValueError: If it is something else.

        Example:
            >>> start = ClientRound(Client("a", 0, 3, 0, 0, 0), Payload(), ClientState())
            >>> ClientRound.from_bytes(start.to_bytes()) == start
            True
        """
        read, blobs = unpack(data)
        header = fields(read, "a client's round", {"client": dict, "before": dict})
        client = fields(header["client"], "a client", _CLIENT)
        _check_counts(client["stage_steps"], "a client's `stage_steps`")
        broadcast, *kept = blobs or [b""]
        before = _unpacked_state(header["before"], kept)
        return cls(Client(**client), Payload.from_bytes(broadcast), before)


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
        """Read what :meth:`to_bytes` wrote.

        Raises:
            ValueError: If it is something else.
        """
        read, blobs = unpack(data)
        header = fields(read, "a finished client", {"update": dict, "state": dict})
        told = fields(header["update"], "an update", _UPDATE)
        for name, value in told["metrics"].items():
            fields({name: value}, "an update's `metrics`", {name: float})
        upload, *kept = blobs or [b""]
        state = _unpacked_state(header["state"], kept)
        return cls(Update(payload=Payload.from_bytes(upload), **told), state)


@dataclass(frozen=True)
class Failed:
    """A client that is left out of the round, and why.

    Attributes:
        client: The client.
        error: What it raised. One whose words cannot be read is replaced by one that says so.

    Example:
        >>> class Silent(Exception):
        ...     def __str__(self):
        ...         raise RuntimeError
        >>> Failed(Client("a", 0, 3, 0, 0, 0), Silent()).error
        UnreadableError('a Silent, whose words cannot be read')
    """

    client: Client
    error: Exception

    def __post_init__(self) -> None:
        try:
            str(self.error).encode()
        except Exception:  # its own code runs here, which may do anything
            unreadable = UnreadableError(f"a {_kind(self.error)}, whose words cannot be read")
            object.__setattr__(self, "error", unreadable)


class FailedElsewhere(RuntimeError):
    """A client's error as another process tells it, in the same words."""


class UnreadableError(RuntimeError):
    """Stands for a client's error whose text is an error itself, or no text."""


def pack_results(results: Mapping[int, Finished | Failed]) -> bytes:
    """Results by their clients' positions in the round as bytes."""
    entries: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for position, result in results.items():
        if isinstance(result, Failed):
            entry = {"position": position, "error": str(result.error), "kind": _kind(result.error)}
            of_run = isinstance(result.error, ConfigurationError)
            entries.append({**entry, "of_run": of_run})
        else:
            entries.append({"position": position})
            blobs.append(result.to_bytes())
    return pack(entries, blobs)


def _checked_entries(entries: Any, blobs: int, clients: int) -> list[dict[str, Any]]:
    """The header of packed results, after a look at whether it fits the round.

    Raises:
        ValueError: If it does not.
    """
    if not isinstance(entries, list):
        raise ValueError(
            f"packed results are expected to begin with a list, but got {entries!r:.80}"
        )
    for entry in entries:
        failed = isinstance(entry, dict) and "error" in entry
        kinds: dict[str, type | UnionType] = {"position": int}
        fields(
            entry,
            "a result",
            kinds | ({"error": str, "kind": str, "of_run": bool} if failed else {}),
        )
    positions = [entry["position"] for entry in entries]
    finished = sum("error" not in entry for entry in entries)
    if len(set(positions)) < len(positions) or not set(positions) <= set(range(clients)):
        raise ValueError(
            f"results are expected to be of different ones of {clients} clients, but got {positions}"
        )
    if finished != blobs:
        raise ValueError(f"{finished} results are expected to have finished, but there are {blobs}")
    return entries


def unpack_results(data: bytes, clients: Sequence[Client]) -> dict[int, Finished | Failed]:
    """Read what :func:`pack_results` wrote.

    Args:
        data: The bytes.
        clients: The round's clients, to which the positions belong.

    Raises:
        ValueError: If it is something else.

    Example:
        >>> client = Client("hospital", 0, 3, round=0, rounds=0, steps=0)
        >>> packed = pack_results({0: Failed(client, ValueError("no rows"))})
        >>> unpack_results(packed, [client])[0].error
        FailedElsewhere('no rows')
    """
    read, blobs = unpack(data)
    entries = _checked_entries(read, len(blobs), len(clients))
    finished = iter(blobs)
    results: dict[int, Finished | Failed] = {}
    for entry in entries:
        position = entry["position"]
        if "error" in entry:
            of_kind = ConfigurationError if entry["of_run"] else FailedElsewhere
            error = of_kind(entry["error"])
            error.add_note(
                f"a {entry['kind']} in the process that trained client {clients[position].id!r}"
            )
            results[position] = Failed(clients[position], error)
        else:
            results[position] = Finished.from_bytes(next(finished))
    return results


def _kind(error: Exception) -> str:
    return type(error).__name__.encode(errors="replace").decode()


def _packed_state(state: ClientState) -> tuple[dict[str, Any], list[bytes]]:
    header = {
        "steps": state.steps,
        "rounds": state.rounds,
        "stage_steps": state.stage_steps,
        "prepared": state.prepared is not None,
    }
    payloads = [state.private, state.optimizer, state.attachments, state.privacy]
    if state.prepared is not None:
        payloads.append(state.prepared)
    return header, [payload.to_bytes() for payload in payloads]


def _unpacked_state(read: Any, blobs: Sequence[bytes]) -> ClientState:
    header = fields(read, "a client's state", _STATE)
    _check_counts(header["stage_steps"], "a client's `stage_steps`")
    if len(blobs) != 4 + header["prepared"]:
        raise ValueError(
            f"a client's state is expected to come in {4 + header['prepared']} blocks, but got {len(blobs)}"
        )
    private, optimizer, attachments, privacy, *prepared = (
        Payload.from_bytes(blob) for blob in blobs
    )
    return ClientState(
        header["steps"],
        header["rounds"],
        private,
        optimizer,
        header["stage_steps"],
        prepared[0] if header["prepared"] else None,
        attachments,
        privacy,
    )


def _check_counts(counts: dict[str, Any], what: str) -> None:
    for name, value in counts.items():
        fields({name: value}, what, {name: int})
