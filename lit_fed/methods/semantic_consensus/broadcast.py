"""Broadcast: what the server tells the clients, and each of them no more than it does not have yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from lit_fed.methods.semantic_consensus.exchange import Labels, packed, unpacked
from lit_fed.methods.semantic_consensus.prompts import DIGEST, is_of_others
from lit_fed.payload import Payload

_ASKED: Final = "asked"
_LABELS: Final = "labels"
_RECEIVED: Final = "received"


@dataclass(frozen=True)
class Broadcast:
    """The labels of the last consensus, and which prompts are to be answered at the end of the round.

    Attributes:
        labels: The labels; None before the first consensus, and for a client that has them.
        bits: The prompts to be answered, packed. None: none is.
        received: Server: the clients that have the labels, and are not sent them again.
        digest: Server: of the prompts that it is about.
    """

    labels: Labels | None = None
    bits: Tensor | None = None
    received: frozenset[str] = field(default_factory=frozenset)
    digest: str | None = None

    @classmethod
    def of(
        cls,
        labels: Labels | None,
        asked: Tensor | None,
        received: Sequence[str],
        digest: str | None,
    ) -> Broadcast:
        """A broadcast that asks for answers to the prompts of a mask, [U]; to none if that is None."""
        bits = None if asked is None else packed(asked)
        return cls(labels, bits, frozenset(received), digest)

    def asked(self, count: int) -> list[int] | None:
        """The prompts to be answered, of ``count``; None where no answer is asked for."""
        if self.bits is None:
            return None
        places: list[int] = unpacked(self.bits, count).nonzero().flatten().tolist()
        return places

    def payload(self) -> Payload:
        """As the server keeps it."""
        tensors = {} if self.bits is None else {_ASKED: self.bits}
        strings = {} if self.digest is None else {DIGEST: [self.digest]}
        if self.labels is None:
            return Payload(tensors, strings if tensors else {})
        strings[_RECEIVED] = sorted(self.received)
        return Payload(tensors, strings, {_LABELS: self.labels.payload()})

    @classmethod
    def read(cls, payload: Payload) -> Broadcast:
        """What :meth:`payload` or :func:`for_client` gave."""
        labels = Labels.read(payload.parts.get(_LABELS))
        received = frozenset(payload.strings.get(_RECEIVED, ()))
        (digest,) = payload.strings.get(DIGEST, (None,))
        return cls(labels, payload.tensors.get(_ASKED), received, digest)


def about(broadcast: Payload, digest: str | None, count: int) -> Payload:
    """A broadcast as it is, if it is about the prompts of a digest; else what is left of it with these.

    That is no label, and all prompts to be answered where some of the others were.

    Args:
        broadcast: As the server keeps it.
        digest: Of the prompts that there are. None: it is not known.
        count: How many there are.
    """
    if not is_of_others(broadcast, digest):
        return broadcast
    asked = None if _ASKED not in broadcast.tensors else torch.ones(count, dtype=torch.bool)
    return Broadcast.of(None, asked, (), digest).payload()


def for_client(broadcast: Payload, client: str, learns: bool = True) -> Payload:
    """What a client downloads of a broadcast: labels that it has already stay with it.

    Args:
        broadcast: As the server keeps it.
        client: The client's id.
        learns: Whether it learns from labels at all.
    """
    own = broadcast.select([_ASKED])
    if not learns or _LABELS not in broadcast.parts or client in broadcast.strings[_RECEIVED]:
        return own
    return own.with_parts({_LABELS: broadcast.parts[_LABELS]})
