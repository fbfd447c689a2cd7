"""A round's uploads until they are aggregated, in files where they would take too much memory."""

from __future__ import annotations

import uuid
from pathlib import Path

from lit_fed.payload import Payload


class RoundUploads:
    """Counts the bytes of a round's uploads, and puts those that exceed a budget into files.

    What sees such an upload, a method, a rule or a callback, sees a payload as any other; its tensors are read from
    the file where they are used. So a rule that goes through the clients, tensor by tensor, needs no more memory for
    many of them; one that puts clients beside each other in a matrix does.

    Args:
        budget: Bytes that may stay in memory. None: all.
        folder: Where the files are made.

    Example:
        >>> import tempfile, torch
        >>> uploads = RoundUploads(budget=8, folder=Path(tempfile.mkdtemp()))
        >>> sent = Payload({"w": torch.ones(2)})
        >>> uploads.kept(sent) is sent, uploads.kept(sent) is sent, uploads.kept(sent) == sent
        (True, False, True)
    """

    def __init__(self, budget: float | None, folder: Path) -> None:
        self._budget = budget
        self._folder = folder
        self._bytes = 0

    def kept(self, upload: Payload) -> Payload:
        """The upload as it is or, where it does not fit, with its tensors in a file."""
        size = upload.nbytes
        if self._budget is None or self._bytes + size <= self._budget:
            self._bytes += size
            return upload
        self._folder.mkdir(parents=True, exist_ok=True)
        return upload.in_file(self._folder / f"{uuid.uuid4().hex}.safetensors")
