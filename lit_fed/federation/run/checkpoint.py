"""A federation's whole state in a folder: safetensors and JSON, written whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import safetensors.torch
from torch import Tensor

from lit_fed.atomic_files import whole_folder
from lit_fed.checkpoint_files import (
    FORMAT,
    CheckpointReader,
    checkpoints,
    is_checkpoint,
    last_checkpoint,
    opened,
    undamaged,
)
from lit_fed.digests import write_digests
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.ledger import Ledger
from lit_fed.federation.run.client_state_store import ClientStateStore
from lit_fed.federation.state import FederationState
from lit_fed.payload import Payload

__all__ = [
    "best_round",
    "checkpoints",
    "last_checkpoint",
    "load_checkpoint",
    "save_checkpoint",
    "saved_identity",
]

_PAYLOADS: Final = ("private", "optimizer", "prepared", "attachments", "privacy")


def best_round(
    history: Sequence[Mapping[str, float]], monitor: str, mode: Literal["min", "max"] = "max"
) -> int | None:
    """How many rounds were finished when a metric was best, or None if it never was a number.

    Args:
        history: One row a round.
        monitor: Name of the metric. Rounds without it, or where it is NaN, do not count.
        mode: Whether the largest or the smallest value is best; the earliest of equals wins.

    Example:
        >>> best_round([{"val/f1": 0.5}, {"val/f1": 0.75}, {"val/f1": 0.75}], "val/f1")
        2
    """
    sign = 1.0 if mode == "max" else -1.0
    scores = {
        finished: sign * row[monitor]
        for finished, row in enumerate(history, start=1)
        if not math.isnan(row.get(monitor, math.nan))
    }
    return max(scores, key=scores.__getitem__, default=None)


def save_checkpoint(folder: Path, state: FederationState, run: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all; one that is there stays until the new one is in its place.

    ``state.json`` holds the counters, ``broadcast.safetensors`` and ``server.safetensors`` what its
    name says, ``clients/<number>.safetensors`` a client's private state and
    ``clients/<number>.optimizer.safetensors`` its optimizer's, where there is any (and likewise what it
    prepared, what attachments keep and what privacy it has spent), and
    ``callback.<number>.safetensors`` the tensors of a callback's state. Last of all, ``SHA256SUMS`` has their
    digests, with which each file is compared when it is read.

    Args:
        folder: The checkpoint's final name. One that is there already is replaced.
        state: What to write.
        run: The run's identity, which must be the same for the run to go on.

    Raises:
        FileExistsError: If ``folder`` is there and holds something else than a checkpoint.
        OSError: If it cannot be written.
    """
    if folder.exists() and not is_checkpoint(folder) and any(folder.iterdir()):
        raise FileExistsError(
            f"a checkpoint is expected to be written to a new folder or in place of another one, but {folder} is "
            "there and is none"
        )
    with whole_folder(folder) as writing:
        _write(writing, state, run)
        write_digests(writing)


def _write(folder: Path, state: FederationState, run: dict[str, Any]) -> None:
    (folder / "clients").mkdir()
    state.broadcast.save(folder / "broadcast.safetensors")
    state.server.save(folder / "server.safetensors")
    clients: dict[str, dict[str, Any]] = {}
    for number, (name, client) in enumerate(state.clients.items()):
        clients[name] = {
            "steps": client.steps,
            "rounds": client.rounds,
            "stage_steps": client.stage_steps,
        }
        for key in _PAYLOADS:
            payload: Payload | None = getattr(client, key)
            # nothing prepared is not the same as prepared, and it came to nothing
            if payload or (key == "prepared" and payload is not None):
                clients[name][key] = f"clients/{number}.{key}.safetensors"
                payload.save(folder / clients[name][key])
    content = {
        "format": FORMAT,
        "run": run,
        "round": state.round,
        "clients": clients,
        "sampler": state.sampler,
        "ledger": state.ledger.to_dict(),
        "history": state.history,
        "failures": state.failures,
        "changes": state.changes,
        "reported": state.reported,
        "callbacks": _written_callbacks(folder, state.callbacks),
    }
    (folder / "state.json").write_text(json.dumps(content, indent=1), encoding="utf-8")


def saved_identity(folder: Path) -> tuple[dict[str, Any], bool]:
    """The identity of the run that wrote a checkpoint, and whether that is all of it.

    The first format recorded no more than the method's name and the seed.

    Raises:
        FileNotFoundError: If ``folder`` is no checkpoint.
        ValueError: If it is damaged, or of another format.
    """
    data = opened(folder).state
    if data["format"] > 1:
        return undamaged(folder, lambda: dict(data["run"])), True
    known = {"model": "method", "trainer.seed": "trainer.seed"}
    return undamaged(folder, lambda: {k: data["run"][old] for k, old in known.items()}), False


def load_checkpoint(folder: Path, memory: ClientStateStore | None = None) -> FederationState:
    """Read a checkpoint.

    Args:
        folder: What :func:`save_checkpoint` wrote.
        memory: Where the clients' states are kept. None: in memory.

    Raises:
        FileNotFoundError: If ``folder`` is no checkpoint.
        ValueError: If it is damaged, or was written in another format.
    """
    reader = opened(folder)
    data = reader.state

    def client(one: dict[str, Any]) -> ClientState:
        kept = {key: reader.payload(one[key]) for key in _PAYLOADS if key in one}
        stage_steps = one.get("stage_steps", {})
        state = ClientState(one["steps"], one["rounds"], stage_steps=stage_steps, **kept)
        return state if memory is None else memory.kept(state)

    def read() -> FederationState:
        return FederationState(
            round=data["round"],
            broadcast=reader.payload("broadcast.safetensors"),
            server=reader.payload("server.safetensors"),
            clients={name: client(one) for name, one in data["clients"].items()},
            sampler=data["sampler"],
            ledger=Ledger.from_dict(data["ledger"]),
            history=_numbered_from_one(data["history"], data["format"]),
            failures=data["failures"],
            changes=data.get("changes", []),
            reported=data.get("reported", data["round"]),
            callbacks=_read_callbacks(reader, data.get("callbacks", {})),
        )

    return undamaged(folder, read)


def _numbered_from_one(history: list[dict[str, float]], format: int) -> list[dict[str, float]]:
    """Rows of the history; the first format counted rounds from 0."""
    if format > 1:
        return history
    return [row | {"round": row["round"] + 1} if "round" in row else row for row in history]


def _written_callbacks(folder: Path, states: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Write the tensors of the callbacks' states to files; the rest is for ``state.json``."""
    written: dict[str, dict[str, Any]] = {}
    for number, (key, state) in enumerate(states.items()):
        tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
        plain = {name: value for name, value in state.items() if name not in tensors}
        try:
            json.dumps(plain)
        except TypeError as error:
            raise TypeError(
                f"state_dict() of callback {key} is expected to hold tensors and what JSON takes, "
                f"but {error}"
            ) from error
        written[key] = {"state": plain}
        if tensors:
            written[key]["tensors"] = f"callback.{number}.safetensors"
            # not as a payload, which is finite: the best score so far of an early stop begins at infinity
            safetensors.torch.save_file(tensors, folder / written[key]["tensors"])
    return written


def _read_callbacks(reader: CheckpointReader, written: dict[str, Any]) -> dict[str, dict[str, Any]]:
    states = {}
    for key, one in written.items():
        tensors = reader.tensors(one["tensors"]) if "tensors" in one else {}
        states[key] = {**one["state"], **tensors}
    return states
