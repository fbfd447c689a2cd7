"""The results of a process's clients as bytes, for the other processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lit_fed.client import Client
from lit_fed.federation.execution.collectives import pack, unpack
from lit_fed.federation.execution.execution import Failed, Finished
from lit_fed.federation.state import ClientState
from lit_fed.payload import Payload
from lit_fed.update import Update


class FailedElsewhere(RuntimeError):
    """A client's error as another process tells it, in the same words."""


def pack_results(results: Mapping[int, Finished | Failed]) -> bytes:
    """Results by their clients' positions as bytes: JSON, and the payloads in their own format."""
    entries: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for position, result in results.items():
        if isinstance(result, Failed):
            kind = type(result.error).__name__
            entries.append({"position": position, "error": str(result.error), "kind": kind})
            continue
        update, state = result.update, result.state
        entries.append(
            {
                "position": position,
                "num_samples": update.num_samples,
                "rounds": update.rounds,
                "metrics": dict(update.metrics),
                "state": [state.steps, state.rounds],
            }
        )
        blobs += [p.to_bytes() for p in (update.payload, state.private, state.optimizer)]
    return pack(entries, blobs)


def unpack_results(data: bytes, clients: Sequence[Client]) -> dict[int, Finished | Failed]:
    """Read what :func:`pack_results` wrote.

    Args:
        data: The bytes.
        clients: The round's clients, to which the positions belong.

    Example:
        >>> client = Client("hospital", 0, 3, round=0, rounds=0, steps=0, rows=None)
        >>> packed = pack_results({0: Failed(client, ValueError("no rows"))})
        >>> unpack_results(packed, [client])[0].error
        FailedElsewhere('no rows')
    """
    entries, blobs = unpack(data)
    payloads = iter(blobs)
    results: dict[int, Finished | Failed] = {}
    for entry in entries:
        client = clients[entry["position"]]
        if "error" in entry:
            error = FailedElsewhere(entry["error"])
            error.add_note(f"a {entry['kind']} in the process that trained client {client.id!r}")
            results[entry["position"]] = Failed(client, error)
            continue
        upload, private, optimizer = (Payload.from_bytes(next(payloads)) for _ in range(3))
        update = Update(client.id, upload, entry["num_samples"], entry["rounds"], entry["metrics"])
        steps, rounds = entry["state"]
        results[entry["position"]] = Finished(
            update, ClientState(steps, rounds, private, optimizer)
        )
    return results
