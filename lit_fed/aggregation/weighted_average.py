"""The weighted average of the clients' payloads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_fed.aggregation.aggregation import Aggregation
from lit_fed.aggregation.weighting import (
    Weighting,
    client_weight,
    client_weights,
    require_weighting,
)
from lit_fed.payload import Payload
from lit_fed.update import Update


class WeightedAverage(Aggregation):
    r"""The weighted mean of every tensor.

    .. math:: \theta_g = \sum_k w_k \theta_k, \qquad \sum_k w_k = 1

    McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", 2017,
    Algorithm 1, https://arxiv.org/abs/1602.05629. The sum is taken in float64 and returned in the
    dtype of the broadcast before. Integers and strings have no mean: they pass if all clients sent the same.

    Args:
        weights: What a client's weight is proportional to: ``size`` (its number of rows), ``uniform``,
            ``validation`` (its validation score) or ``rounds`` (rounds it has taken part in).
        score: The client metric used by ``validation``, larger is better.

    Example:
        >>> a = Update("a", Payload({"w": torch.tensor([1.0])}), num_samples=3)
        >>> b = Update("b", Payload({"w": torch.tensor([5.0])}), num_samples=1)
        >>> WeightedAverage()([a, b], previous=Payload()).tensors["w"]
        tensor([2.])
    """

    def __init__(self, weights: Weighting = "size", score: str = "val/accuracy") -> None:
        self.weighting = require_weighting(weights)
        self.score = score
        self.needs_validation = weights == "validation"

    def check_update(self, update: Update) -> None:
        """The client has to report what its weight follows from; see :class:`~lit_fed.aggregation.Aggregation`."""
        client_weight(update, self.weighting, self.score)

    def weights(self, updates: Sequence[Update]) -> list[float]:
        """w_k; see :class:`~lit_fed.aggregation.Aggregation`."""
        return client_weights(updates, self.weighting, self.score)

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """Average the updates; what was before decides their dtype alone, where it has them.

        Raises:
            ValueError: If there are none, names or shapes differ between clients, or something
                that has no mean differs.
        """
        mean = weighted_mean(updates, self.weights(updates))
        first = updates[0].payload
        like = {**first.tensors, **previous.tensors}
        tensors = {name: value.to(like[name].dtype) for name, value in mean.items()}
        return Payload(tensors, first.strings)


def weighted_mean(updates: Sequence[Update], weights: Sequence[float]) -> dict[str, Tensor]:
    """Σ w_k θ_k of every tensor.

    Args:
        updates: The updates, whose payloads hold the same tensors and strings.
        weights: w_k, one per update.

    Returns:
        The means of floating tensors in float64; other tensors as they are.

    Raises:
        ValueError: If names or shapes differ between clients, or something that has no mean differs.

    Example:
        >>> a = Update("a", Payload({"w": torch.tensor([1.0])}), num_samples=3)
        >>> b = Update("b", Payload({"w": torch.tensor([5.0])}), num_samples=1)
        >>> weighted_mean([a, b], [0.5, 0.5])
        {'w': tensor([3.], dtype=torch.float64)}
    """
    sent = alike(updates)
    return {name: _mean(name, [s[name] for s in sent], weights) for name in sent[0]}


def alike(updates: Sequence[Update]) -> list[dict[str, Tensor]]:
    """The clients' tensors, which have the same names and shapes, beside the same strings.

    Args:
        updates: At least one.

    Returns:
        One dictionary per update, each in the order of the first one's.

    Raises:
        ValueError: If names, shapes or strings differ between clients.
    """
    first = updates[0]
    sent = [
        u.payload.matching(first.payload.tensors, f"the upload of client {u.client_id!r}")
        for u in updates
    ]
    for update in updates:
        if update.payload.tensors.keys() != first.payload.tensors.keys():
            extra = sorted(update.payload.tensors.keys() - first.payload.tensors.keys())
            raise ValueError(
                f"uploads are expected to hold the same tensors, but client {update.client_id!r} sent {extra} "
                f"and client {first.client_id!r} did not"
            )
        if update.payload.strings != first.payload.strings:
            raise ValueError(
                f"strings cannot be averaged, but clients {first.client_id!r} and {update.client_id!r} sent "
                "different ones; the method's aggregate() has to combine them"
            )
    return sent


def _mean(name: str, tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        if any(not torch.equal(first, t) for t in tensors[1:]):
            raise ValueError(
                f"tensor {name!r} of {first.dtype} has no mean, but clients sent different values; "
                "the method's aggregate() has to combine them"
            )
        return first
    mean = torch.zeros(first.shape, dtype=torch.float64)
    for tensor, weight in zip(tensors, weights, strict=True):
        mean.add_(tensor.double(), alpha=weight)
    return mean
