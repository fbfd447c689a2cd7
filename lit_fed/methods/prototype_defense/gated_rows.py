"""Gated rows: what the gate has said of a client's rows, once for each set of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from torch import Tensor

from lit_fed.data.columns import select_rows
from lit_fed.data.encodings import Encoding
from lit_fed.defenses.kept_rows import KeptRows
from lit_fed.prototypes import Judgement, PrototypeSet
from lit_fed.prototypes.gates.gate import class_name

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Dropped:
    """A row that the gate has dropped, for whoever audits it.

    Attributes:
        text: The row's text.
        label: The name of the label that it came with.
        assigned_class: The name of the class of its nearest prototype.
        similarity: Its cosine with that prototype.
        reason: Why it was dropped, in words.
    """

    text: str
    label: str
    assigned_class: str
    similarity: float
    reason: str


@dataclass(frozen=True, eq=False)
class GatedRows:
    """A client's rows and what the gate has said of them.

    Attributes:
        key: What the rows and the gate were.
        rows: All of them.
        kept: Those that are trained on, the same object where none is dropped.
        ids: The rows' ids, [N].
        labels: Their labels, [N].
        states: Their vectors, [N, d]; None where nobody needs them any more.
        judgement: The gate's.
        round: The round in which the client has trained on them last, from 0.
    """

    key: tuple[str, str]
    rows: Dataset
    kept: Dataset
    ids: Tensor
    labels: Tensor
    states: Tensor | None
    judgement: Judgement
    round: int

    @classmethod
    def of(
        cls,
        key: tuple[str, str],
        rows: Dataset,
        ids: Tensor,
        labels: Tensor,
        states: Tensor,
        judgement: Judgement,
        keeps_states: bool,
        round: int,
    ) -> Self:
        """Leave out the rows that are dropped; see the attributes."""
        kept = rows
        if not bool(judgement.kept.all()):
            kept = select_rows(rows, judgement.kept.nonzero().flatten().numpy())
        return cls(key, rows, kept, ids, labels, states if keeps_states else None, judgement, round)

    def metrics(self, names: Sequence[str]) -> dict[str, float]:
        """The share of rows that are kept, of all and of each class that the client has, and how many are dropped.

        Args:
            names: Of the classes.
        """
        kept = self.judgement.kept
        told = {
            "train/kept_share": float(kept.double().mean()),
            "train/dropped_rows": float((~kept).sum()),
        }
        for label in self.labels.unique().tolist():
            own = kept[self.labels == label]
            name = names[label] if 0 <= label < len(names) else str(label)
            told[f"train/kept_share/{name}"] = float(own.double().mean())
        return told

    def counted(self, method: str, prototypes: PrototypeSet) -> KeptRows:
        """How many rows are kept of each class, and which are dropped.

        Args:
            method: What judged them.
            prototypes: By which they were judged.
        """
        written = [class_name(prototypes, label) for label in self.labels.tolist()]
        dropped = ~self.judgement.kept.numpy()
        return KeptRows.counted(
            method, written, dropped, np.zeros(len(dropped), bool), self.ids.numpy(), self.round
        )

    def dropped(self, encoding: Encoding, prototypes: PrototypeSet) -> tuple[Dropped, ...]:
        """The rows that are dropped, with what is to be known of each.

        Args:
            encoding: How rows are written.
            prototypes: By which they were judged.
        """
        judged = self.judgement
        places = (~judged.kept).nonzero().flatten().tolist()
        if not places:
            return ()
        texts = encoding.inputs(self.rows.select(places))
        return tuple(
            Dropped(
                text,
                class_name(prototypes, int(self.labels[place])),
                class_name(prototypes, int(prototypes.classes[judged.assigned[place]])),
                float(judged.similarity[place]),
                judged.reasons[place],
            )
            for text, place in zip(texts, places, strict=True)
        )

    def of_batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """The prototypes that a batch's rows are assigned to, and whether they are kept, [B] each.

        Args:
            index: The rows' ids, [B].

        Raises:
            RuntimeError: If a row is none of these.
        """
        wanted = index.cpu()
        in_order, order = self.ids.sort()
        places = torch.searchsorted(in_order, wanted).clamp(max=len(in_order) - 1)
        if bool((in_order[places] != wanted).any()):
            raise RuntimeError("all rows that a client trains on are expected to have been judged")
        found = order[places]
        judged = self.judgement
        return judged.assigned[found].to(index.device), judged.kept[found].to(index.device)


@dataclass
class GateMemory:
    """What was said of each client's rows last, in this process.

    Clients that train at once are copies of one module: they share this memory, so that rows are judged once and
    whoever audits them finds all.
    """

    held: dict[str, GatedRows] = field(default_factory=dict)

    def __deepcopy__(self, memo: object) -> GateMemory:
        return self
