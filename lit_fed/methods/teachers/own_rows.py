"""Own rows: rows as a teacher with another tokenizer reads them, found by their ids."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_fed.data.features import Features


class OwnRows:
    """Rows that were tokenised for a teacher, of which it takes those of a batch that the student has.

    Args:
        features: The rows, tokenised for the teacher, with their ids ``index``.

    Example:
        >>> features = Features({"input_ids": [[5, 6], [7]]}, {"index": [12, 3]}, {"input_ids": 0})
        >>> OwnRows(features).batch(torch.tensor([3, 12, 3]))["input_ids"].tolist()
        [[7, 0], [5, 6], [7, 0]]
    """

    def __init__(self, features: Features) -> None:
        self.features = features
        ids = torch.from_numpy(features.rows["index"])
        self._ids, self._positions = ids.sort()

    def batch(self, index: Tensor) -> dict[str, Tensor]:
        """Rows by their ids, as a batch of nothing but tokens, on the device of the ids.

        Args:
            index: Ids, [B].

        Raises:
            RuntimeError: If there is no row of an id.
        """
        wanted = index.cpu()
        places = torch.searchsorted(self._ids, wanted).clamp(max=len(self._ids) - 1)
        unknown = self._ids[places] != wanted
        if bool(unknown.any()):
            raise RuntimeError(
                f"a teacher with a tokenizer of its own is expected to have read all rows that are trained on, but "
                f"not row {int(wanted[unknown][0])}"
            )
        batch = self.features.batch(self._positions[places].tolist())
        tokens = (*self.features.tokens, "attention_mask")
        return {name: batch[name].to(index.device) for name in tokens}
