"""What the compressions share that keep every value, with fewer bits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from lit_fed.attachment import Attachment
from lit_fed.client import Client
from lit_fed.compression.entries import collected, entry_names, require_free
from lit_fed.payload import Payload


class Rounding(Attachment):
    """Sends each floating tensor with fewer bits per value.

    Of a tensor that the client has downloaded the change θ_k − θ_g is rounded, which is much smaller than θ_k, and
    the server adds θ_g; another one is rounded itself. Integers and strings are sent as they are.

    Args:
        parts: Parts of the upload, such as ``consensus``, whose tensors are rounded as well: the values themselves.
            Default: none, so that what is exchanged beside the weights is sent as it is.
        clients: Ids of the clients that it acts on. None: all.
    """

    endings: ClassVar[tuple[str, ...]]
    """What a tensor's entries are called in what is sent."""

    def __init__(self, parts: Sequence[str] = (), clients: Sequence[str] | None = None) -> None:
        super().__init__(clients)
        self.parts = tuple(parts)

    @abstractmethod
    def rounded(self, values: Tensor) -> tuple[Tensor, ...]:
        """What of a tensor is sent, one tensor per ending.

        Args:
            values: Of any shape, in float32 or float64.
        """

    @abstractmethod
    def restored(self, what: str, *entries: Tensor) -> Tensor:
        """The tensor that stands for what was sent.

        Args:
            what: How an error calls it.
            entries: What was sent, one tensor per ending; not to be trusted.

        Returns:
            A floating tensor.

        Raises:
            ValueError: If the entries are nothing that :meth:`rounded` gives.
        """

    def upload(
        self, client: Client, upload: Payload, broadcast: Payload, memory: Payload
    ) -> tuple[Payload, Payload]:
        """Client: round.

        Raises:
            ValueError: If the upload has no part of a name in ``parts``.
        """
        if missing := [name for name in self.parts if name not in upload.parts]:
            raise ValueError(
                f"`trainer.attachments` {type(self).__name__}.parts is expected to name parts of the upload, which has "
                f"{sorted(upload.parts) or 'none'}, but got {missing[0]!r}"
            )
        tensors = self._compressed(upload.tensors, broadcast.tensors)
        parts = {
            name: Payload(self._compressed(part.tensors, {}), part.strings)
            if name in self.parts
            else part
            for name, part in upload.parts.items()
        }
        return Payload(tensors, upload.strings, parts), memory

    def received(self, client: Client, upload: Payload, broadcast: Payload) -> Payload:
        """Server: take the rounded values for the true ones."""
        what = f"the upload of client {client.id!r}"
        tensors = self._expanded(upload.tensors, broadcast.tensors, what)
        parts = {
            name: Payload(self._expanded(part.tensors, {}, what), part.strings)
            if name in self.parts
            else part
            for name, part in upload.parts.items()
        }
        return Payload(tensors, upload.strings, parts)

    def _compressed(
        self, tensors: Mapping[str, Tensor], before: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        require_free(tensors, self.endings, type(self).__name__)
        sent: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                sent[name] = tensor
                continue
            wide = torch.promote_types(tensor.dtype, torch.float32)
            values = tensor.to(wide)
            if _changes(before, name, tensor.shape):
                values = values - before[name].to(wide)
            entries = self.rounded(values)
            sent |= zip(entry_names(name, self.endings), entries, strict=True)
        return sent

    def _expanded(
        self, tensors: Mapping[str, Tensor], before: Mapping[str, Tensor], what: str
    ) -> dict[str, Tensor]:
        whole, entries = collected(tensors, self.endings, what)
        for name, sent in entries.items():
            values = self.restored(f"{name!r} of {what}", *sent)
            if _changes(before, name, values.shape):
                old = before[name]
                values = (old.double() + values.double()).to(old.dtype)
            whole[name] = values
        return whole


def _changes(before: Mapping[str, Tensor], name: str, shape: torch.Size) -> bool:
    """Whether the server knows what a tensor was before."""
    return name in before and before[name].is_floating_point() and before[name].shape == shape
