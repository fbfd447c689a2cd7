"""Server momentum: what the clients have changed is added up over the rounds."""

from __future__ import annotations

from torch import Tensor

from lit_fed.aggregation.server_optimizer import ServerOptimizer
from lit_fed.aggregation.weighting import Weighting
from lit_fed.limits import require_fraction
from lit_fed.payload import Payload


class FedAvgM(ServerOptimizer):
    r"""Federated averaging with momentum on the server (FedAvgM).

    .. math::
        v \leftarrow \beta v + (\theta_g - \sum_k w_k \theta_k), \qquad \theta_g \leftarrow \theta_g - \eta v

    Hsu et al., "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    Classification", 2019, §4.3, https://arxiv.org/abs/1909.06335. The momentum is not damped: it is v
    that is added to, by all of the round's change. (OpenFedLLM adds 1 − β of it.) With β = 0 and η = 1 it is
    :class:`~lit_fed.aggregation.WeightedAverage`. For the rest see
    :class:`~lit_fed.aggregation.ServerOptimizer`.

    Args:
        momentum: β, in [0, 1).
        lr: η > 0, the server's learning rate.
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Raises:
        ValueError: If ``momentum`` or ``lr`` is out of range.

    Example:
        >>> import torch
        >>> from lit_fed.payload import Payload
        >>> from lit_fed import Update
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
        super().__init__(lr, weights, score)
        self.momentum = require_fraction("model.aggregation.momentum", momentum)

    def step(self, name: str, delta: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """−η v."""
        v = self.momentum * self.moment(name, delta) - delta
        return -self.lr * v, {name: v}

    def load_state(self, state: Payload) -> None:
        """Take v back.

        Raises:
            ValueError: If it is the state of another rule.
        """
        super().load_state(state)
        # states of earlier versions say by their names alone whose they are
        if other := [name for name in state.tensors if name.startswith(("m/", "v/"))]:
            raise ValueError(
                f"the state of `model.aggregation` {type(self).__name__} is expected to hold v of each tensor by its "
                f"own name, but holds {other[0]!r}, which is another rule's"
            )
