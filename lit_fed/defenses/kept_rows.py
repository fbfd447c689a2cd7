"""Kept rows: how many of a client's rows a defence has kept, dropped and changed, by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lit_fed.data.columns import in_written_order
from lit_fed.payload import Payload

_KIND = "row_defense"


@dataclass(frozen=True)
class KeptRows:
    """What a defence has made of one client's rows.

    Attributes:
        defense: The defence's class.
        classes: The C labels that the rows have, as they are written.
        total: Rows of each class, [C].
        kept: Those that are kept, [C].
        changed: Those of the kept whose text is another one, [C].
        dropped: Ids of the rows that are dropped (:func:`~lit_fed.data.columns.row_ids`).
        judged: Ids of all rows that it has seen.
        round: The round in which it has seen them last, from 0.
    """

    defense: str
    classes: tuple[str, ...]
    total: tuple[int, ...]
    kept: tuple[int, ...]
    changed: tuple[int, ...]
    dropped: tuple[int, ...]
    judged: tuple[int, ...]
    round: int

    @classmethod
    def counted(
        cls,
        defense: str,
        labels: Sequence[str | None],
        rejected: npt.NDArray[np.bool_],
        changed: npt.NDArray[np.bool_],
        ids: npt.NDArray[np.int64],
        round: int,
    ) -> KeptRows:
        """Count rows by class.

        Args:
            defense: The defence's class.
            labels: The labels of n rows; a missing one counts as ``""``.
            rejected: Whether each row is dropped, [n].
            changed: Whether its text is another one, [n].
            ids: The rows' ids, [n].
            round: The round.

        Example:
            >>> counted = KeptRows.counted(
            ...     "ONION", ["a", "b", "a"], np.array([1, 0, 0], bool), np.array([0, 0, 1], bool), np.arange(3), 0
            ... )
            >>> counted.classes, counted.total, counted.kept, counted.changed, counted.dropped
            (('a', 'b'), (2, 1), (1, 1), (1, 0), (0,))
        """
        written = np.array([label or "" for label in labels], object)
        classes = in_written_order(written.tolist())

        def per_class(chosen: npt.NDArray[np.bool_]) -> tuple[int, ...]:
            return tuple(int((chosen & (written == name)).sum()) for name in classes)

        return cls(
            defense,
            tuple(classes),
            per_class(np.ones(len(written), bool)),
            per_class(~rejected),
            per_class(~rejected & changed),
            tuple(ids[rejected].tolist()),
            tuple(ids.tolist()),
            round,
        )

    def to_payload(self) -> Payload:
        """As a payload, to be kept with the client's state.

        Example:
            >>> kept = KeptRows("ONION", ("a",), (2,), (1,), (0,), (7,), (4, 7), 3)
            >>> KeptRows.from_payload(kept.to_payload()) == kept
            True
        """
        counts = torch.tensor([self.total, self.kept, self.changed], dtype=torch.int64)
        tensors = {
            "counts": counts,
            "dropped": torch.tensor(self.dropped, dtype=torch.int64),
            "judged": torch.tensor(self.judged, dtype=torch.int64),
            "round": torch.tensor(self.round),
        }
        return Payload(tensors, {_KIND: [self.defense], "classes": list(self.classes)})

    @classmethod
    def from_payload(cls, payload: Payload) -> KeptRows | None:
        """What :meth:`to_payload` gave; None of what another attachment keeps."""
        if _KIND not in payload.strings:
            return None
        total, kept, changed = (tuple(row) for row in payload.tensors["counts"].tolist())
        (defense,), classes = payload.strings[_KIND], payload.strings["classes"]
        dropped, judged = (tuple(payload.tensors[name].tolist()) for name in ("dropped", "judged"))
        round = int(payload.tensors["round"])
        return cls(defense, tuple(classes), total, kept, changed, dropped, judged, round)
