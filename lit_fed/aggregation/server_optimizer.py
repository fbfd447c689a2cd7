"""What server optimizers share: the clients' mean change is a gradient of the global model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from lit_fed.aggregation.aggregation import Aggregation
from lit_fed.aggregation.weighted_average import weighted_mean
from lit_fed.aggregation.weighting import (
    Weighting,
    client_weight,
    client_weights,
    require_weighting,
)
from lit_fed.limits import require_positive
from lit_fed.payload import Payload
from lit_fed.update import Update

_RULE: Final = "server_optimizer"  # in a state, beside the moments: the class that they are of


class ServerOptimizer(Aggregation):
    r"""A rule that moves the global model by the clients' mean change, each tensor by itself.

    .. math:: \Delta = \sum_k w_k \theta_k - \theta_g, \qquad \theta_g \leftarrow \theta_g + \mathrm{step}(\Delta)

    It computes in float64 and keeps its moments in float32, or in the tensor's dtype if that is wider. Moments
    of tensors that no client sends in a round stay as they are, and those of a tensor that is new begin as in the
    first round. Integers and strings pass if all clients sent the same.

    Args:
        lr: The server's learning rate, above 0.
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Raises:
        ValueError: If ``lr`` is out of range.
    """

    def __init__(self, lr: float, weights: Weighting = "size", score: str = "val/accuracy") -> None:
        self.lr = require_positive("model.aggregation.lr", lr)
        self.weighting = require_weighting(weights)
        self.score = score
        self.needs_validation = weights == "validation"
        self._moments = Payload()

    @abstractmethod
    def step(self, name: str, delta: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """One tensor's change, and its moments from now on.

        Args:
            name: The tensor's.
            delta: Δ of it, in float64.

        Returns:
            What is added to it, and what :meth:`moment` is to give in the next round, both in float64.
        """

    def moment(self, name: str, like: Tensor, start: float = 0.0) -> Tensor:
        """A moment as the last round left it, in float64.

        Args:
            name: As :meth:`step` has named it.
            like: Has its shape.
            start: Its value before there was a round.

        Raises:
            ValueError: If the tensor had another shape when it was kept.
        """
        if name not in self._moments.tensors:
            return torch.full_like(like, start)
        return self._moments.matching({name: like}, "the server's state")[name].double()

    def check_update(self, update: Update) -> None:
        """The client has to report what its weight follows from; see :class:`~lit_fed.aggregation.Aggregation`."""
        client_weight(update, self.weighting, self.score)

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
        kept, tensors = dict(self._moments.tensors), dict(mean)
        for name, old in before.items():
            if not old.is_floating_point():
                continue
            change, moments = self.step(name, mean[name] - old.double())
            tensors[name] = (old.double() + change).to(old.dtype)
            wide = torch.promote_types(old.dtype, torch.float32)
            kept |= {key: value.to(wide) for key, value in moments.items()}
        self._moments = Payload(kept, {_RULE: [type(self).__name__]} if kept else {})
        return Payload(tensors, updates[0].payload.strings)

    def state(self) -> Payload:
        """Give the moments, and say whose they are."""
        return self._moments

    def load_state(self, state: Payload) -> None:
        """Take the moments back; without any they are as before the first round.

        Raises:
            ValueError: If they are another rule's.
        """
        own = type(self).__name__
        (rule,) = state.strings.get(_RULE, (own,))  # states of earlier versions do not say it
        if rule != own:
            raise ValueError(
                f"the state of `model.aggregation` {own} is expected to be its own, since moments of another rule "
                f"mean something else, but is that of {rule}"
            )
        self._moments = state
