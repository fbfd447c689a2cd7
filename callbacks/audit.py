"""Audit of prototypes: what is to be known of each, and of the rows that clients' gates have dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

if TYPE_CHECKING:
    from lit_fed.methods.prototype_defense import Dropped
    from lit_fed.prototypes import PrototypeSet

NO_CLASS = "no class"
MOVED = 0.05
"""From this distance 1 − cosine on a prototype counts as moved."""


@dataclass(frozen=True)
class AuditedPrototype:
    """One prototype.

    Attributes:
        index: Its position in the set.
        class_name: Its class.
        references: Its nearest reference texts.
        count: References assigned to it.
        usage: Validation rows whose nearest prototype it is.
        agreement: Share of these whose label is its class; None of none, or without a class.
        drift: 1 − cosine to the same prototype of the version before; None where there is none.
    """

    index: int
    class_name: str
    references: tuple[str, ...]
    count: int
    usage: int
    agreement: float | None
    drift: float | None

    @property
    def flags(self) -> tuple[str, ...]:
        """What a person should look at: ``unused``, ``other labels`` or ``moved``."""
        found = ["unused"] * (self.usage == 0)
        found += ["other labels"] * (self.agreement is not None and self.agreement < 0.5)
        found += ["moved"] * (self.drift is not None and self.drift >= MOVED)
        return tuple(found)


@dataclass(frozen=True)
class AuditedClient:
    """What the gate has dropped of one client's rows.

    Attributes:
        client: The client's id.
        rows: How many rows it has.
        dropped: What is dropped of them; None where they were not judged in this process.
    """

    client: str
    rows: int
    dropped: Sequence[Dropped] | None


@dataclass(frozen=True)
class Audit:
    """The prototypes of a round and what they did.

    Attributes:
        round: The round, counted from 1.
        version: The prototypes' version.
        digest: Their digest.
        encoder: The encoder's digest.
        validation_rows: Rows by which the usage was counted.
        prototypes: Each prototype.
        clients: Each client.
    """

    round: int
    version: int
    digest: str
    encoder: str
    validation_rows: int
    prototypes: tuple[AuditedPrototype, ...]
    clients: tuple[AuditedClient, ...]


def audited_prototypes(
    prototypes: PrototypeSet,
    nearest: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    before: Tensor | None,
) -> tuple[AuditedPrototype, ...]:
    """What is to be known of each prototype.

    Args:
        prototypes: The P prototypes.
        nearest: Of each of n validation rows its nearest prototype, [n].
        labels: The rows' classes, [n].
        before: The vectors of the version before, [P, d]. None: there is none, or of another shape or encoder.
    """
    classes = prototypes.classes.tolist()
    usage = np.bincount(nearest, minlength=len(classes))
    agreeing = np.bincount(
        nearest[np.asarray(classes, np.int64)[nearest] == labels], minlength=len(classes)
    )
    drift: list[float] | None = None
    if before is not None:
        cosines = torch.nn.functional.cosine_similarity(prototypes.vectors, before, dim=-1)
        drift = (1 - cosines.double()).clamp(min=0).tolist()
    counts, texts = prototypes.counts.tolist(), prototypes.references
    return tuple(
        AuditedPrototype(
            index,
            class_name(prototypes.labels, classes[index]),
            texts[index] if index < len(texts) else (),
            counts[index],
            int(usage[index]),
            float(agreeing[index] / usage[index]) if usage[index] and classes[index] >= 0 else None,
            None if drift is None else drift[index],
        )
        for index in range(len(classes))
    )


def class_name(labels: Sequence[str], number: int) -> str:
    """A class by its name; its number where it has none.

    Args:
        labels: Names of the classes.
        number: The class, −1 for none.

    Example:
        >>> class_name(("bad", "good"), 1), class_name((), 3), class_name(("bad",), -1)
        ('good', '3', 'no class')
    """
    if number < 0:
        return NO_CLASS
    return labels[number] if number < len(labels) else str(number)


def reasons(dropped: Sequence[Dropped]) -> Mapping[str, int]:
    """How many rows are dropped for each reason, the most frequent first.

    Args:
        dropped: The rows.
    """
    counts: dict[str, int] = {}
    for row in dropped:
        counts[str(row.reason)] = counts.get(str(row.reason), 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
