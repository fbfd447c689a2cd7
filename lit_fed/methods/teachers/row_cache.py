"""Row cache: predictions kept by row id, for the next time a row comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Fields = dict[str, Tensor]


class RowCache:
    """Tensors by row id, whatever batch and padding a row comes in.

    A field is one value a row, [B, ...], or one a place, [B, L-1, ...] as a language model's logits
    are; of the latter only places about tokens that are no padding are kept.

    Args:
        budget: Bytes at most. What does not fit is computed again each time.

    Attributes:
        nbytes: Bytes kept.

    Example:
        >>> cache, calls = RowCache(1000), []
        >>> def double(batch):
        ...     calls.append(batch["index"].tolist())
        ...     return {"x": 2.0 * batch["index"]}
        >>> _ = cache.get({"index": torch.tensor([3, 5])}, double)
        >>> cache.get({"index": torch.tensor([5, 4])}, double)["x"], calls
        (tensor([10.,  8.]), [[3, 5], [4]])
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nbytes = 0
        self._rows: dict[int, Fields] = {}

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
        self.nbytes = 0

    def get(
        self,
        batch: Mapping[str, Tensor],
        compute: Callable[[Mapping[str, Tensor]], Fields],
        per_place: tuple[str, ...] = (),
    ) -> Fields:
        """The fields of a batch's rows; only rows that are not there are computed.

        Args:
            batch: Fields [B, ...], among them the rows' ids ``index`` [B]. Without ids nothing is kept, and
                nothing for each place without ``attention_mask`` [B, L].
            compute: Gives the fields of a batch, or of some of its rows.
            per_place: Names of the fields that have a value for each place.
        """
        unkeyed = "index" not in batch or (per_place and "attention_mask" not in batch)
        if not self.budget or unkeyed:
            return compute(batch)
        ids = batch["index"].tolist()
        absent = [i for i, row in enumerate(ids) if row not in self._rows]
        if len(absent) == len(ids):
            fresh = compute(batch)
            self._keep(self._split(batch, fresh, per_place))
            return fresh
        found = {row: self._rows[row] for row in ids if row in self._rows}
        if absent:
            part = {name: values[absent] for name, values in batch.items()}
            computed = self._split(part, compute(part), per_place)
            self._keep(computed)
            found |= computed
        return _joined([found[row] for row in ids], batch, per_place)

    def _split(
        self, batch: Mapping[str, Tensor], fields: Fields, per_place: tuple[str, ...]
    ) -> dict[int, Fields]:
        places = _places(batch) if per_place else None
        return {
            row: {
                name: values[i][places[i]]
                if places is not None and name in per_place
                else values[i]
                for name, values in fields.items()
            }
            for i, row in enumerate(batch["index"].tolist())
        }

    def _keep(self, rows: dict[int, Fields]) -> None:
        for row, fields in rows.items():
            size = sum(v.numel() * v.element_size() for v in fields.values())
            if row not in self._rows and self.nbytes + size <= self.budget:
                self._rows[row] = fields
                self.nbytes += size


def _places(batch: Mapping[str, Tensor]) -> Tensor:
    """Where a shifted prediction is made from a token about a token, [B, L-1]."""
    mask = batch["attention_mask"].bool()
    return mask[:, :-1] & mask[:, 1:]


def _joined(rows: list[Fields], batch: Mapping[str, Tensor], per_place: tuple[str, ...]) -> Fields:
    joined: Fields = {}
    for name, first in rows[0].items():
        if name in per_place:
            places = _places(batch)
            joined[name] = first.new_zeros((*places.shape, *first.shape[1:]))
            joined[name][places] = torch.cat([row[name] for row in rows])
        else:
            joined[name] = torch.stack([row[name] for row in rows])
    return joined
