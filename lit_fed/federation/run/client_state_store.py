"""What stays with clients between rounds, on disk where it would take too much memory."""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lit_fed.digests import digest_of
from lit_fed.federation.client.client_state import ClientState
from lit_fed.federation.run.round_uploads import RoundUploads
from lit_fed.payload import Payload


class StoredPayload(Payload):
    """A payload in a file, which is read whenever the content is asked for and goes with the payload.

    Args:
        payload: The content.
        folder: Where the file is made.
    """

    def __init__(self, payload: Payload, folder: Path) -> None:
        super().__init__()
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{uuid.uuid4().hex}.safetensors"
        self._size = payload.nbytes
        data = payload.to_bytes()
        self._digest = digest_of(data)
        self._path.write_bytes(data)
        weakref.finalize(self, self._path.unlink, missing_ok=True)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors by name, read now."""
        return Payload.from_bytes(self.to_bytes()).tensors

    @property
    def strings(self) -> Mapping[str, tuple[str, ...]]:
        """The lists of texts by name, read now."""
        return Payload.from_bytes(self.to_bytes()).strings

    @property
    def parts(self) -> Mapping[str, Payload]:
        """The parts by name, read now."""
        return Payload.from_bytes(self.to_bytes()).parts

    @property
    def nbytes(self) -> int:
        """Size of the content in bytes."""
        return self._size

    def __bool__(self) -> bool:
        return True

    def to_bytes(self) -> bytes:
        """The file's content, which is in the payload's own format.

        Raises:
            OSError: If it cannot be read, or is not what was written.
        """
        data = self._path.read_bytes()
        if digest_of(data) != self._digest:
            raise OSError(
                f"{self._path}, a client's state, is expected to be as it was written, but is damaged; go on from "
                "the last checkpoint by --ckpt_path last"
            )
        return data


class ClientStateStore:
    """Counts the bytes of clients' states, and puts those that exceed a budget into files.

    Args:
        budget: Bytes that may stay in memory. None: all.
        folder: Where the files are made.
        held: The states that are in memory already, or in files.
    """

    def __init__(
        self, budget: float | None, folder: Path, held: Iterable[ClientState] = ()
    ) -> None:
        self._budget = budget
        self._folder = folder
        self._bytes = 0
        if budget is not None:
            for state in held:
                self._bytes += sum(_in_memory(payload) for payload in _payloads(state).values())

    def kept(self, state: ClientState) -> ClientState:
        """The state as it is or, where it does not fit, with its payloads in files."""
        if self._budget is None:
            return state
        fitted: dict[str, Any] = {n: self._fit(p) for n, p in _payloads(state).items()}
        return replace(state, **fitted)

    def uploads(self) -> RoundUploads:
        """Where a round's uploads are kept, with a budget of the same size."""
        return RoundUploads(self._budget, self._folder)

    def _fit(self, payload: Payload) -> Payload:
        size = _in_memory(payload)
        if not size:
            return payload
        if self._budget is not None and self._bytes + size > self._budget:
            return StoredPayload(payload, self._folder)
        self._bytes += size
        return payload


def _payloads(state: ClientState) -> dict[str, Payload]:
    held = {
        "private": state.private,
        "optimizer": state.optimizer,
        "attachments": state.attachments,
        "privacy": state.privacy,
    }
    return held if state.prepared is None else {**held, "prepared": state.prepared}


def _in_memory(payload: Payload) -> int:
    return 0 if isinstance(payload, StoredPayload) else payload.nbytes
