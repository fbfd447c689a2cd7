"""Vote weights: how much a client's answer counts in the vote on a prompt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class VoteWeight(ABC):
    """Gives each client's answer to each prompt a weight.

    Attributes:
        by_confidence: Whether clients send how sure they are of their answers: two bytes each.
    """

    by_confidence: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, sizes: Tensor, confidence: Tensor) -> Tensor:
        """The weights.

        Args:
            sizes: Rows of each client, [K].
            confidence: How sure each client is of each answer, [K, U], in [0, 1]; 1 where clients do not say it.

        Returns:
            [K, U] in float64, at least 0.
        """


class EqualWeight(VoteWeight):
    """Each client has one vote.

    Example:
        >>> EqualWeight()(torch.tensor([10, 30]), torch.tensor([[0.5], [1.0]])).tolist()
        [[1.0], [1.0]]
    """

    def __call__(self, sizes: Tensor, confidence: Tensor) -> Tensor:
        """1 for each answer."""
        return torch.ones_like(confidence, dtype=torch.float64)


class SizeWeight(VoteWeight):
    """A vote weighs as much as the client's share of all rows.

    Where one client has more than half of the rows, its answers are the labels.

    Example:
        >>> SizeWeight()(torch.tensor([10, 30]), torch.tensor([[0.5], [1.0]])).tolist()
        [[0.25], [0.75]]
    """

    def __call__(self, sizes: Tensor, confidence: Tensor) -> Tensor:
        """n_k / Σ n."""
        shares = sizes.double() / sizes.sum().clamp(min=1)
        return shares.unsqueeze(-1).expand_as(confidence)


class ConfidenceWeight(VoteWeight):
    """A vote weighs as much as the client is sure of this answer: the probability that its model gives it.

    Of a text it is the geometric mean of its tokens' probabilities. A client that overstates it is believed.

    Example:
        >>> ConfidenceWeight()(torch.tensor([10, 30]), torch.tensor([[0.5], [1.0]])).tolist()
        [[0.5], [1.0]]
    """

    by_confidence: ClassVar[bool] = True

    def __call__(self, sizes: Tensor, confidence: Tensor) -> Tensor:
        """What each client says."""
        return confidence.double()
