"""Update: what the server receives from one client in one round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from lit_fed.payload import Payload


@dataclass(frozen=True)
class Update:
    """A client's upload with what the server knows of its sender.

    Attributes:
        client_id: Who sent it.
        payload: What was sent.
        num_samples: Rows the client trained on, n_k.
        rounds: Rounds the client has taken part in, this one included.
        metrics: What the client logged: means of its training metrics and, where clients are
            validated, of its validation metrics.
        compressed_bytes: Bytes of what has crossed the wire, where an attachment has compressed the payload.

    Example:
        >>> Update("a", Payload({"w": torch.ones(2)}), num_samples=1).nbytes
        8
    """

    client_id: str
    payload: Payload
    num_samples: int
    rounds: int = 1
    metrics: Mapping[str, float] = field(default_factory=dict)
    compressed_bytes: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of what has crossed the wire."""
        return self.payload.nbytes if self.compressed_bytes is None else self.compressed_bytes


def norm_of_change(upload: Payload, broadcast: Payload) -> float | None:
    """L2 norm of what a client has changed of what it downloaded, over all its floating tensors together.

    Args:
        upload: What it sends.
        broadcast: What it has downloaded.

    Returns:
        The norm, in float64, infinite where it is too large for that; None if the two have no floating tensor of
        one name and shape in common.

    Example:
        >>> norm_of_change(Payload({"w": torch.tensor([4.0, 1.0])}), Payload({"w": torch.tensor([1.0, 5.0])}))
        5.0
    """
    before = broadcast.tensors
    norms = [
        torch.linalg.vector_norm(tensor.double() - before[name].double())
        for name, tensor in upload.tensors.items()
        if name in before
        and tensor.is_floating_point()
        and before[name].is_floating_point()
        and tensor.shape == before[name].shape
    ]
    return float(torch.linalg.vector_norm(torch.stack(norms))) if norms else None
