"""Krum and Multi-Krum: the clients that are nearest to most of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_fed.aggregation.robust.changes import Geometry
from lit_fed.aggregation.robust.robust_rule import RobustRule
from lit_fed.limits import require_at_least, require_none_or_at_least
from lit_fed.payload import Payload
from lit_fed.update import Update


class Krum(RobustRule):
    r"""The one client whose n − f − 2 nearest neighbours are nearest.

    .. math:: s(i) = \sum_{i \to j} \lVert \Delta_i - \Delta_j \rVert^2, \qquad i^* = \arg\min_i s(i)

    Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", 2017, §4,
    https://arxiv.org/abs/1703.02757 (the long version of NeurIPS 2017). It bears f wrong clients of n ≥ 2f + 3. The
    others' rows are lost to the round, so that it costs quality where clients' rows differ. Of equal scores the
    client first in the alphabet is taken. Bytes are those of federated averaging; the server compares all pairs, over
    LoRA by the factors' Gram matrices. Every round logs ``server/krum/selected`` (the position of the client among
    those of the round, counted from 0) and ``server/krum/score``.

    Args:
        num_malicious: f, at least 0.
        geometry: What a client's change is. None: products over LoRA, else coordinates.

    Raises:
        ValueError: If ``num_malicious`` is negative.

    Example:
        >>> sent = [Update(f"{x}", Payload({"w": torch.tensor([x])}), 1) for x in (1.0, 2.0, 2.5, 3.5, 600.0)]
        >>> rule = Krum(num_malicious=1)
        >>> rule(sent, Payload({"w": torch.tensor([0.0])})).tensors["w"], rule.weights(sent)
        (tensor([2.]), [0.0, 1.0, 0.0, 0.0, 0.0])
    """

    def __init__(self, num_malicious: int = 1, geometry: Geometry | None = None) -> None:
        super().__init__(geometry)
        self.num_malicious = require_at_least("model.aggregation.num_malicious", num_malicious, 0)
        self.fewest_updates = fewest_updates(num_malicious)

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """Take the client with the smallest score.

        Raises:
            ValueError: If there are fewer than 2f + 3 updates, or clients or the broadcast before hold other tensors.
        """
        changes = self._changes(updates, previous)
        scores = krum_scores(changes.squared_distances(), self.num_malicious)
        (first,) = smallest(scores, updates, 1)
        weights = torch.zeros_like(scores)
        weights[first] = 1.0
        self._note(
            updates,
            weights,
            {"server/krum/selected": float(first), "server/krum/score": float(scores[first])},
        )
        return changes.combined(weights)


class MultiKrum(RobustRule):
    r"""The mean of the m clients whose scores, those of Krum, are smallest.

    Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent", 2017, §4 and §6,
    https://arxiv.org/abs/1703.02757. It bears f wrong clients of n ≥ 2f + 3, and loses fewer rows than Krum does. The
    selected count alike, whatever their sizes. Every round logs ``server/multi_krum/selected`` and ``…/left_out``,
    both numbers of clients.

    Args:
        num_malicious: f, at least 0.
        num_selected: m, from 1 to n − f. None: n − f.
        geometry: What a client's change is. None: products over LoRA, else coordinates.

    Raises:
        ValueError: If ``num_malicious`` is negative or ``num_selected`` is below 1.

    Example:
        >>> sent = [Update(f"{x}", Payload({"w": torch.tensor([x])}), 1) for x in (1.0, 2.0, 2.5, 3.5, 600.0)]
        >>> rule = MultiKrum(num_malicious=1)
        >>> rule(sent, Payload({"w": torch.tensor([0.0])})).tensors["w"], rule.weights(sent)
        (tensor([2.2500]), [0.25, 0.25, 0.25, 0.25, 0.0])
    """

    def __init__(
        self,
        num_malicious: int = 1,
        num_selected: int | None = None,
        geometry: Geometry | None = None,
    ) -> None:
        super().__init__(geometry)
        self.num_malicious = require_at_least("model.aggregation.num_malicious", num_malicious, 0)
        self.num_selected = require_none_or_at_least(
            "model.aggregation.num_selected", num_selected, 1
        )
        self.fewest_updates = max(
            fewest_updates(num_malicious), num_malicious + (num_selected or 0)
        )

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """Take the mean of the clients with the smallest scores.

        Raises:
            ValueError: If there are fewer than 2f + 3 or m + f updates, or clients or the broadcast before hold
                other tensors.
        """
        changes = self._changes(updates, previous)
        scores = krum_scores(changes.squared_distances(), self.num_malicious)
        most = len(updates) - self.num_malicious
        number = most if self.num_selected is None else self.num_selected
        if number > most:
            raise ValueError(
                f"`model.aggregation.num_selected` is expected to be at most {most}, which is n − f for n = "
                f"{len(updates)} updates and f = {self.num_malicious}, but got {number}"
            )
        weights = torch.zeros_like(scores)
        weights[smallest(scores, updates, number)] = 1 / number
        self._note(
            updates,
            weights,
            {
                "server/multi_krum/selected": float(number),
                "server/multi_krum/left_out": float(len(updates) - number),
            },
        )
        return changes.combined(weights)


def fewest_updates(num_malicious: int) -> int:
    """2f + 3, the fewest updates of which f may be wrong.

    Args:
        num_malicious: f.
    """
    return 2 * num_malicious + 3


def krum_scores(squared_distances: Tensor, num_malicious: int) -> Tensor:
    """Each client's sum of squared distances to its n − f − 2 nearest others, [n].

    Args:
        squared_distances: [n, n].
        num_malicious: f.

    Raises:
        ValueError: If n < 2f + 3.

    Example:
        >>> krum_scores(torch.tensor([[0.0, 1.0, 4.0], [1.0, 0.0, 1.0], [4.0, 1.0, 0.0]]), 0)
        tensor([1., 1., 1.])
    """
    count = len(squared_distances)
    if count < (least := fewest_updates(num_malicious)):
        raise ValueError(
            f"`model.aggregation.num_malicious` {num_malicious} expects at least 2f + 3 = {least} updates in a round, "
            f"but got {count}"
        )
    others = squared_distances.clone().fill_diagonal_(torch.inf)
    return others.sort(1).values[:, : count - num_malicious - 2].sum(1)


def smallest(scores: Tensor, updates: Sequence[Update], number: int) -> list[int]:
    """Positions of the smallest scores; of equal ones those of the clients first in the alphabet.

    Args:
        scores: [n].
        updates: Of the n clients.
        number: How many.
    """
    names = [update.client_id for update in updates]
    return sorted(range(len(names)), key=lambda i: (float(scores[i]), names[i]))[:number]
