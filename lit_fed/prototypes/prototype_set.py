"""Prototype set: the anchors of a representation space that server and clients share."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import torch
from torch import Tensor

from lit_fed.losses.prototype_margin import prototype_cosines
from lit_fed.payload import Payload

NO_CLASS: Final = -1
"""The class of a prototype that has none."""


@dataclass(frozen=True, eq=False)
class PrototypeSet:
    """Prototypes of one version: unit vectors in an encoder's space, with the classes of the references around them.

    Bergman et al., "Robust Knowledge Distillation in Distributed LLMs Using Prototype-Constrained Semantic Defense
    Mechanisms", §3: each is the centre of a cluster of similar references. The vectors take P · d · 4 bytes.

    Args:
        vectors: [P, d], of length 1, float32.
        classes: [P], long; −1 where a prototype has no class.
        counts: [P], long: how many references each stands for.
        version: From 0; merging counts it up.
        encoder: Digest of the encoder in whose space the vectors are.
        references: Of each prototype its nearest reference texts, the nearest first; none where texts may not leave.
        labels: Names of the classes.

    Raises:
        ValueError: If the shapes do not fit each other, a vector's length is not 1, or a class is unknown.

    Example:
        >>> vectors = torch.nn.functional.normalize(torch.ones(50, 768), dim=-1)
        >>> zeros = torch.zeros(50, dtype=torch.long)
        >>> prototypes = PrototypeSet(vectors, zeros, zeros, 0, "a1b2", (), ("good",))
        >>> prototypes.nbytes
        153600
        >>> prototypes.nearest(-vectors[:2]).tolist(), len(prototypes.digest)
        ([0, 0], 16)
    """

    vectors: Tensor
    classes: Tensor
    counts: Tensor
    version: int
    encoder: str
    references: tuple[tuple[str, ...], ...] = ()
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what is no set of prototypes."""
        count = len(self.vectors)
        if self.vectors.dim() != 2 or not count or self.vectors.dtype != torch.float32:
            raise ValueError(
                f"`vectors` are expected to be [P, d] in float32 with P > 0, but are {list(self.vectors.shape)} in "
                f"{self.vectors.dtype}"
            )
        for name, held in (("classes", self.classes), ("counts", self.counts)):
            if held.shape != (count,) or held.dtype != torch.long:
                raise ValueError(
                    f"`{name}` are expected to be one a prototype, [{count}] in int64, but are {list(held.shape)} in "
                    f"{held.dtype}"
                )
        if self.references and len(self.references) != count:
            raise ValueError(
                f"`references` are expected to be those of {count} prototypes, but got {len(self.references)}"
            )
        apart = (torch.linalg.vector_norm(self.vectors, dim=-1) - 1).abs()
        if not bool((apart < 1e-3).all()):
            raise ValueError(
                f"`vectors` are expected to have length 1, but that of prototype {int(apart.argmax())} is "
                f"{float(torch.linalg.vector_norm(self.vectors[apart.argmax()])):.4g}"
            )
        known = len(self.labels) or int(self.classes.max()) + 1
        if int(self.classes.min()) < NO_CLASS or int(self.classes.max()) >= known:
            raise ValueError(
                f"`classes` are expected to be from {NO_CLASS} to {known - 1}, but got {self.classes.unique().tolist()}"
            )

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors, P · d · 4."""
        return self.vectors.numel() * self.vectors.element_size()

    @cached_property
    def digest(self) -> str:
        """What tells these prototypes from others: of the vectors, classes, counts, version, encoder and labels.

        The reference texts do not count, since they may stay with the server.
        """
        key = hashlib.blake2b(digest_size=8)
        for held in (self.vectors, self.classes, self.counts):
            key.update(repr(tuple(held.shape)).encode())
            key.update(held.detach().cpu().contiguous().numpy().tobytes())
        key.update(repr((self.version, self.encoder, self.labels)).encode())
        return key.hexdigest()

    def similarities(self, states: Tensor) -> Tensor:
        """The cosines of representations and prototypes, [B, P].

        Args:
            states: [B, d].

        Raises:
            ValueError: If the widths differ.
        """
        return prototype_cosines(states.detach(), self.vectors.to(states.device))

    def nearest(self, states: Tensor) -> Tensor:
        """The place of each representation's nearest prototype, [B].

        Args:
            states: [B, d].
        """
        return self.similarities(states).argmax(-1)

    def nearest_of_class(self, states: Tensor, classes: Tensor) -> Tensor:
        """The place of the nearest prototype among those of a class, [B]; of all where a class has none.

        Args:
            states: [B, d].
            classes: [B].
        """
        fits = self.classes.to(classes.device) == classes.unsqueeze(-1)
        fits |= ~fits.any(-1, keepdim=True)
        return self.similarities(states).masked_fill(~fits, -torch.inf).argmax(-1)

    def require_same(self, version: int, digest: str, who: str) -> None:
        """Refuse to go by other prototypes than the one who asks.

        Args:
            version: The version that is asked for.
            digest: Its digest.
            who: Who asks, for the message.

        Raises:
            ValueError: If they are others.
        """
        if digest != self.digest:
            raise ValueError(
                f"{who} is expected to go by the prototypes of version {self.version}, digest {self.digest}, of the "
                f"encoder {self.encoder}, but goes by those of version {version}, digest {digest}"
            )

    def to_payload(self, texts: bool = True) -> Payload:
        """All of it as tensors and strings; read again by :meth:`from_payload`.

        Args:
            texts: Whether the reference texts are with it.
        """
        strings = {"about": [str(self.version), self.encoder, self.digest], "labels": self.labels}
        if texts and self.references:
            strings["reference_counts"] = [str(len(own)) for own in self.references]
            strings["references"] = [text for own in self.references for text in own]
        tensors = {
            "vectors": self.vectors,
            "classes": self.classes.short(),
            "counts": self.counts.int(),
        }
        return Payload(tensors, {name: list(held) for name, held in strings.items()})

    @classmethod
    def from_payload(cls, payload: Payload) -> PrototypeSet:
        """What :meth:`to_payload` gave.

        Raises:
            ValueError: If it is none, or its digest is another one than it says.
        """
        try:
            version, encoder, digest = payload.strings["about"]
            texts = iter(payload.strings.get("references", ()))
            counts = [int(n) for n in payload.strings.get("reference_counts", ())]
            made = cls(
                payload.tensors["vectors"],
                payload.tensors["classes"].long(),
                payload.tensors["counts"].long(),
                int(version),
                encoder,
                tuple(tuple(next(texts) for _ in range(n)) for n in counts),
                payload.strings["labels"],
            )
        except (KeyError, StopIteration, RuntimeError) as error:
            raise ValueError(
                f"a payload is expected to hold prototypes, but lacks {error}"
            ) from None
        made.require_same(int(version), digest, "a payload of prototypes")
        return made
