"""Server optimizers: the clients' mean change is a gradient of the global model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_fed.aggregation.aggregation import Aggregation
from lit_fed.aggregation.weighted_average import weighted_mean
from lit_fed.aggregation.weighting import Weighting, client_weights
from lit_fed.limits import require_fraction, require_positive
from lit_fed.payload import Payload
from lit_fed.update import Update


class FedAvgM(Aggregation):
    r"""Federated averaging with momentum on the server (FedAvgM).

    .. math::
        v \leftarrow \beta v + (\theta_g - \sum_k w_k \theta_k), \qquad \theta_g \leftarrow \theta_g - \eta v

    Hsu et al., "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification", 2019, §4.3, https://arxiv.org/abs/1909.06335. The momentum is not damped: it is v
    that is added to, by all of the round's change. With β = 0 and η = 1 it is
    :class:`~lit_fed.aggregation.WeightedAverage`. It computes in float64 and keeps v in float32, or in the
    tensor's dtype if that is wider. Integers and strings pass if all clients sent the same.

    Args:
        momentum: β, in [0, 1).
        lr: η > 0, the server's learning rate.
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Raises:
        ValueError: If ``momentum`` or ``lr`` is out of range.

    Example:
        >>> rule = FedAvgM(momentum=0.5)
        >>> sent = [Update("a", Payload({"w": torch.tensor([3.0])}), num_samples=1)]
        >>> first = rule(sent, previous=Payload({"w": torch.tensor([4.0])}))
        >>> first.tensors["w"], rule(sent, previous=first).tensors["w"]  # v = 1, then 0.5
        (tensor([3.]), tensor([2.5000]))
    """

    def __init__(
        self,
        momentum: float = 0.9,
        lr: float = 1.0,
        weights: Weighting = "size",
        score: str = "val/accuracy",
    ) -> None:
        self.momentum = require_fraction("model.aggregation.momentum", momentum)
        self.lr = require_positive("model.aggregation.lr", lr)
        self.weighting: Weighting = weights
        self.score = score
        self.needs_validation = weights == "validation"
        self._velocity = Payload()

    def check_update(self, update: Update) -> None:
        """The client has to report what its weight follows from; see :class:`~lit_fed.aggregation.Aggregation`."""
        client_weights([update], self.weighting, self.score)

    def weights(self, updates: Sequence[Update]) -> list[float]:
        """w_k; see :class:`~lit_fed.aggregation.Aggregation`."""
        return client_weights(updates, self.weighting, self.score)

    def __call__(self, updates: Sequence[Update], previous: Payload) -> Payload:
        """Take one step of the server's.

        Raises:
            ValueError: If there is no update, clients or the broadcast before hold other tensors, or
                something that has no mean differs.
        """
        mean = weighted_mean(updates, self.weights(updates))
        before = previous.matching(updates[0].payload.tensors, "the broadcast before")
        velocity: dict[str, Tensor] = {}
        tensors = dict(mean)
        for name, old in before.items():
            if not old.is_floating_point():
                continue
            v = old.double() - mean[name]
            if name in self._velocity.tensors:
                v += self.momentum * self._velocity.tensors[name].double()
            tensors[name] = (old.double() - self.lr * v).to(old.dtype)
            velocity[name] = v.to(torch.promote_types(old.dtype, torch.float32))
        self._velocity = Payload(velocity)
        return Payload(tensors, updates[0].payload.strings)

    def state(self) -> Payload:
        """Give v."""
        return self._velocity

    def load_state(self, state: Payload) -> None:
        """Take v back; without one it is 0."""
        self._velocity = state
