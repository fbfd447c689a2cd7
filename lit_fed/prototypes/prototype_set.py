"""Prototype set: the anchors of a representation space that server and clients share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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

    def of_class(self, classes: Tensor) -> Tensor:
        """Which prototypes are of a row's class, [B, P], bool; all of them where none is.

        Args:
            classes: [B].
        """
        fits = self.classes.to(classes.device) == classes.unsqueeze(-1)
        return fits | ~fits.any(-1, keepdim=True)

    @property
    def about(self) -> tuple[str, str, str]:
        """Version, encoder and digest, by which server and clients agree on the prototypes."""
        return str(self.version), self.encoder, self.digest

    def to_payload(self, texts: bool = True) -> Payload:
        """All of it as tensors and strings; read again by :meth:`from_payload`.

        Args:
            texts: Whether the reference texts are with it.

        Raises:
            ValueError: If a class is above 32,767, since it has two bytes.
        """
        if (highest := int(self.classes.max())) > (most := torch.iinfo(torch.int16).max):
            raise ValueError(
                f"`classes` are expected to be at most {most:,}, since a payload has two bytes for each, but got "
                f"{highest:,}"
            )
        strings: dict[str, tuple[str, ...]] = {"about": self.about, "labels": self.labels}
        if texts and self.references:
            strings["reference_counts"] = tuple(str(len(own)) for own in self.references)
            strings["references"] = tuple(text for own in self.references for text in own)
        tensors = {
            "vectors": self.vectors,
            "classes": self.classes.short(),
            "counts": self.counts.int(),
        }
        return Payload(tensors, strings)

    @classmethod
    def from_payload(cls, payload: Payload) -> PrototypeSet:
        """What :meth:`to_payload` gave.

        Raises:
            ValueError: If it is none, or its digest is another one than it says.
        """
        try:
            version, encoder, _ = about = payload.strings["about"]
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
        require_same_prototypes(made.about, about, "a payload of prototypes")
        return made


def require_same_prototypes(expected: Sequence[str], held: Sequence[str], who: str) -> None:
    """Refuse to go by other prototypes.

    Args:
        expected: Version, encoder and digest of those to go by, see :attr:`PrototypeSet.about`.
        held: Those of the others; nothing where there are none.
        who: Who goes by them, for the message.

    Raises:
        ValueError: If they are others.

    Example:
        >>> require_same_prototypes(("1", "a1", "7a"), ("0", "a1", "6b"), "client 'a'")
        Traceback (most recent call last):
        ...
        ValueError: client 'a' is expected to go by the prototypes of version 1, encoder a1 and digest
        7a, but goes by those of version 0, encoder a1 and digest 6b
    """
    if tuple(expected) == tuple(held):
        return
    said = ["version {}, encoder {} and digest {}".format(*one) for one in (expected, held) if one]
    goes = f"goes by those of {said[1]}" if held else "says nothing of prototypes"
    raise ValueError(f"{who} is expected to go by the prototypes of {said[0]}, but {goes}")


def require_finite(name: str, states: Tensor) -> None:
    """Refuse representations of which one is not finite: it has no cosine with anything.

    Args:
        name: The argument that has them, for the message.
        states: The representations, [N, d].

    Raises:
        ValueError: Naming the first such one.

    Example:
        >>> require_finite("states", torch.tensor([[1.0], [float("nan")]]))
        Traceback (most recent call last):
        ValueError: `states` are expected to be finite, but number 1, counted from 0, of 2 is not
    """
    bad = (~states.isfinite().all(-1)).nonzero().flatten().tolist()
    if bad:
        raise ValueError(
            f"`{name}` are expected to be finite, but number {bad[0]}, counted from 0, of {len(states)} is not"
        )
