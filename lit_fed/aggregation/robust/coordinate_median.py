"""The coordinate-wise median."""

from __future__ import annotations

from collections.abc import Sequence

from lit_fed.aggregation.robust.coordinate_mean import trimmed
from lit_fed.aggregation.robust.robust_rule import RobustRule
from lit_fed.payload import Payload
from lit_fed.update import Update


class CoordinateMedian(RobustRule):
    r"""At each coordinate the median of the clients' values; of an even number the mean of the two in the middle.

    Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates", 2018, Definition 1 and
    Algorithm 1, https://arxiv.org/abs/1803.01498. It bears less than half of wrong clients. All clients count
    alike, whatever their sizes. Bytes are those of federated averaging. Over LoRA it acts on the entries of
    the changes s·B·A, which takes a dense matrix at a time, and what is left is truncated to the
    adapter's rank; see :class:`~lit_fed.aggregation.robust.Products`. Every round logs
    ``server/coordinate_median/weight_min`` and ``…/weight_max``: the least and the greatest share of the coordinates
    at which a client's value is the one in the middle.

    Args:
        geometry: What a client's change is. None: products over LoRA, else coordinates.

    Example:
        >>> import torch
        >>> sent = [Update(f"{x}", Payload({"w": torch.tensor([x])}), 1) for x in (1.0, 2.0, 600.0)]
        >>> CoordinateMedian()(sent, Payload({"w": torch.tensor([0.0])})).tensors["w"]
        tensor([2.])
    """

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """Take the median at each coordinate.

        Raises:
            ValueError: If there is no update, or clients or the broadcast before hold other tensors.
        """
        changes = self._changes(updates, previous)
        each_side = (len(updates) - 1) // 2
        broadcast, shares = changes.combined_by_coordinate(
            lambda values: trimmed(values, each_side)
        )
        self._note(
            updates,
            shares,
            {
                "server/coordinate_median/weight_min": float(shares.min()),
                "server/coordinate_median/weight_max": float(shares.max()),
            },
        )
        return broadcast
