"""What crosses the wire: labels on the way to clients, answers on the way back, each as few bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from lit_fed.methods.semantic_consensus.prompts import DIGEST
from lit_fed.payload import Payload
from lit_fed.specification import Specification, TensorSpecification

_TEXTS: Final = "texts"
_CONFIDENCE: Final = "confidence"
_CHANGED: Final = "changed"

Texts = tuple[str | None, ...]
"""A text a prompt; None where there is none. On the wire that is an empty text, which says nothing either."""


def packed(mask: Tensor) -> Tensor:
    """A mask [N] as bits, [⌈N/8⌉] in uint8.

    Example:
        >>> unpacked(packed(torch.tensor([True, False, True])), 3)
        tensor([ True, False,  True])
    """
    return torch.from_numpy(np.packbits(mask.numpy()))


def unpacked(bits: Tensor, count: int) -> Tensor:
    """The mask [count] that :func:`packed` has packed."""
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=count).astype(np.bool_))


@dataclass(frozen=True)
class Labels:
    """The consensus as clients have it.

    Attributes:
        texts: [U], None where it abstains.
        confidence: [U], float32 in [0, 1], rounded to half precision; 0 where it abstains.
    """

    texts: Texts
    confidence: Tensor

    @classmethod
    def of(cls, texts: Texts, confidence: Tensor) -> Labels:
        """Labels with their confidence, rounded as it is sent."""
        return cls(texts, confidence.half().float())

    def at(self, places: Sequence[int], before: Labels) -> Labels:
        """These labels at some prompts, and those of before at all others.

        Args:
            places: The prompts that these are about.
            before: The labels of before, of the same U prompts.

        Example:
            >>> now = Labels(("a", "b"), torch.ones(2))
            >>> now.at([1], before=Labels(("c", None), torch.zeros(2))).texts
            ('c', 'b')
        """
        texts, confidence = list(before.texts), before.confidence.clone()
        for place in places:
            texts[place], confidence[place] = self.texts[place], self.confidence[place]
        return Labels(tuple(texts), confidence)

    @property
    def places(self) -> list[int]:
        """The prompts that have a label."""
        return [place for place, text in enumerate(self.texts) if text]

    def payload(self) -> Payload:
        """Texts, and the confidence of those that are there in float16."""
        given = self.confidence[self.places].half()
        return Payload({_CONFIDENCE: given}, {_TEXTS: _written(self.texts)})

    @classmethod
    def read(cls, payload: Payload | None) -> Labels | None:
        """What :meth:`payload` gave; None of nothing."""
        if not payload:
            return None
        texts = _read(payload.strings[_TEXTS])
        confidence = torch.zeros(len(texts))
        confidence[[i for i, text in enumerate(texts) if text]] = payload.tensors[
            _CONFIDENCE
        ].float()
        return cls(texts, confidence)


@dataclass(frozen=True)
class Answers:
    """A client's answers to the M prompts that it was asked.

    Attributes:
        texts: [M], None where it has no answer.
        confidence: [M], how sure it is of each, in [0, 1]; None where it does not say so.
    """

    texts: Texts
    confidence: Tensor | None

    def payload(self, changed: Sequence[bool] | None, digest: str) -> Payload:
        """The upload.

        Args:
            changed: Which answers are others than the client sent last, [M]: only these are sent. None: all are.
            digest: Of the prompts that it was asked in this round.
        """
        texts, tensors = self.texts, {}
        if changed is not None:
            texts = tuple(text for text, new in zip(texts, changed, strict=True) if new)
            tensors[_CHANGED] = packed(torch.tensor([*changed], dtype=torch.bool))
        if self.confidence is not None:
            tensors[_CONFIDENCE] = self.confidence.half()
        return Payload(tensors, {_TEXTS: _written(texts), DIGEST: [digest]})

    @staticmethod
    def expected(asked: int, only_changed: bool, with_confidence: bool) -> Specification:
        """What the server knows of an upload before it comes.

        Args:
            asked: M.
            only_changed: Whether only what differs is sent.
            with_confidence: Whether clients say how sure they are.
        """
        tensors = {}
        if only_changed:
            tensors[_CHANGED] = TensorSpecification((-(-asked // 8),), torch.uint8)
        if with_confidence:
            tensors[_CONFIDENCE] = TensorSpecification((asked,), torch.float16, 0, 1)
        return Specification(tensors, {_TEXTS: None if only_changed else asked, DIGEST: 1})

    @classmethod
    def read(cls, payload: Payload, before: Texts) -> Answers:
        """What a client has answered, by what it sends and what it sent before.

        Args:
            payload: The upload.
            before: What the client sent last about each of the M prompts.

        Raises:
            ValueError: If it sends another number of answers than it says.
        """
        texts = _read(payload.strings[_TEXTS])
        if (bits := payload.tensors.get(_CHANGED)) is not None:
            changed = unpacked(bits, len(before)).tolist()
            if sum(changed) != len(texts):
                raise ValueError(
                    f"the upload is expected to hold {sum(changed)} answers, those that it says have changed, but "
                    f"holds {len(texts)}"
                )
            new = iter(texts)
            texts = tuple(next(new) if c else old for c, old in zip(changed, before, strict=True))
        return cls(texts, payload.tensors.get(_CONFIDENCE))


def require_digest(payload: Payload, digest: str, client: str) -> None:
    """Refuse answers to other prompts than those that were asked, of another version of them or of another round.

    Args:
        payload: The upload.
        digest: Of what the server has asked in this round.
        client: Who sends it.

    Raises:
        ValueError: If the digests differ.
    """
    (theirs,) = payload.strings[DIGEST]
    if theirs != digest:
        raise ValueError(
            f"client {client!r} is expected to answer the prompts of `data.public` that are asked in this round, with "
            f"digest {digest}, but has answered others, those of another version or those of another round, "
            f"{theirs!r:.40}"
        )


def _written(texts: Sequence[str | None]) -> list[str]:
    return [text or "" for text in texts]


def _read(texts: Sequence[str]) -> Texts:
    return tuple(text or None for text in texts)
