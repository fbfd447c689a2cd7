"""The coordinate-wise trimmed mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lit_fed.aggregation.robust.changes import Geometry
from lit_fed.aggregation.robust.coordinate_mean import trimmed
from lit_fed.aggregation.robust.robust_rule import RobustRule
from lit_fed.payload import Payload
from lit_fed.update import Update


class TrimmedMean(RobustRule):
    r"""At each coordinate the mean of the clients' values without the ⌊βK⌋ smallest and the ⌊βK⌋ largest.

    Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", 2018, Definition 2 and
    Algorithm 1, https://arxiv.org/abs/1803.01498. It bears ⌊βK⌋ wrong clients of K. All
    clients count alike, whatever their sizes. Bytes are those of federated averaging. Over LoRA it acts on
    the entries of the changes s·B·A, which takes a dense matrix at a time, and what is left is
    truncated to the adapter's rank; see :class:`~lit_fed.aggregation.robust.Products`. Every round logs
    ``server/trimmed_mean/trimmed`` (values taken away at each end), and ``…/weight_min`` and ``…/weight_max``: the
    least and the greatest share that a client has in the result, as the mean over the coordinates.

    Args:
        share: β, at least 0 and below 0.5. Less than 1/K takes nothing away.
        geometry: What a client's change is. None: products over LoRA, else coordinates.

    Raises:
        ValueError: If ``share`` is out of range.

    Example:
        >>> import torch
        >>> sent = [Update(f"{x}", Payload({"w": torch.tensor([x])}), 1) for x in (1.0, 2.0, 3.0, 600.0)]
        >>> rule = TrimmedMean(share=0.25)
        >>> rule(sent, Payload({"w": torch.tensor([0.0])})).tensors["w"], rule.weights(sent)
        (tensor([2.5000]), [0.0, 0.5, 0.5, 0.0])
    """

    def __init__(self, share: float = 0.1, geometry: Geometry | None = None) -> None:
        super().__init__(geometry)
        if not 0 <= share < 0.5:
            raise ValueError(
                "`model.aggregation.share` is expected to be at least 0 and below 0.5, since as much is taken away at "
                f"either end, but got {share!r}"
            )
        self.share = share

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """Take the trimmed mean at each coordinate.

        Raises:
            ValueError: If there is no update, or clients or the broadcast before hold other tensors.
        """
        changes = self._changes(updates, previous)
        # 0.29 · 100 is 28.999…
        each_side = math.floor(self.share * len(updates) + 1e-9)
        broadcast, shares = changes.combined_by_coordinate(
            lambda values: trimmed(values, each_side)
        )
        self._note(
            updates,
            shares,
            {
                "server/trimmed_mean/trimmed": float(each_side),
                "server/trimmed_mean/weight_min": float(shares.min()),
                "server/trimmed_mean/weight_max": float(shares.max()),
            },
        )
        return broadcast
