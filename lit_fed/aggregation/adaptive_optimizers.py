"""Adaptive server optimizers: FedAdagrad, FedAdam and FedYogi."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from lit_fed.aggregation.server_optimizer import ServerOptimizer
from lit_fed.aggregation.weighting import Weighting
from lit_fed.limits import require_fraction, require_positive
from lit_fed.payload import Payload


class AdaptiveServerOptimizer(ServerOptimizer):
    r"""A server optimizer that divides each number's step by the size of its past changes.

    .. math::
        m \leftarrow \beta_1 m + (1 - \beta_1) \Delta, \qquad
        \theta_g \leftarrow \theta_g + \eta \frac{m}{\sqrt v + \tau}

    Reddi et al., "Adaptive Federated Optimization", 2021, Algorithm 2, https://arxiv.org/abs/2003.00295:
    m₀ = 0, v₀ = τ², no bias correction. The rules differ in v, :meth:`second`.

    Args:
        lr: η > 0, the server's learning rate.
        tau: τ > 0, the degree of adaptivity: the smaller, the less a step depends on how large changes are.
        beta1: β₁, in [0, 1).
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Raises:
        ValueError: If a number is out of range.
    """

    _prefixes: ClassVar[tuple[str, str]] = ("m/", "v/")

    def __init__(self, lr: float, tau: float, beta1: float, weights: Weighting, score: str) -> None:
        super().__init__(lr, weights, score)
        self.tau = require_positive("model.aggregation.tau", tau)
        self.beta1 = require_fraction("model.aggregation.beta1", beta1)

    @abstractmethod
    def second(self, v: Tensor, square: Tensor) -> Tensor:
        """The next v.

        Args:
            v: That of the round before, in float64.
            square: Δ².
        """

    def step(self, name: str, delta: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """η m / (√v + τ)."""
        first, second = (f"{prefix}{name}" for prefix in self._prefixes)
        m = self.beta1 * self.moment(first, delta) + (1 - self.beta1) * delta
        v = self.second(self.moment(second, delta, start=self.tau**2), delta.square())
        return self.lr * m / (v.sqrt() + self.tau), {first: m, second: v}

    def load_state(self, state: Payload) -> None:
        """Take m and v back.

        Raises:
            ValueError: If it is the state of another rule.
        """
        super().load_state(state)
        if other := [name for name in state.tensors if not name.startswith(self._prefixes)]:
            raise ValueError(
                f"the state of `model.aggregation` {type(self).__name__} is expected to hold m and v of each tensor, "
                f"but holds {other[0]!r}, which is another rule's"
            )


class FedAdagrad(AdaptiveServerOptimizer):
    r"""Adagrad on the server (FedAdagrad).

    .. math:: v \leftarrow v + \Delta^2

    Reddi et al., "Adaptive Federated Optimization", 2021, Algorithm 2, https://arxiv.org/abs/2003.00295: m₀ = 0,
    v₀ = τ², no bias correction; β₁ = 0 as in the paper's experiments. As v only grows, steps become smaller. Flower
    has v₀ = 0; OpenFedLLM takes means without weights.

    Args:
        lr: η > 0, the server's learning rate.
        tau: τ > 0, the degree of adaptivity.
        beta1: β₁ of the momentum m, in [0, 1).
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> import torch
        >>> from lit_fed.payload import Payload
        >>> from lit_fed import Update
        >>> rule = FedAdagrad(lr=0.5, tau=1.0)
        >>> sent = [Update("a", Payload({"w": torch.tensor([3 ** 0.5])}), num_samples=1)]
        >>> moved = rule(sent, previous=Payload({"w": torch.tensor([0.0])}))  # v = 1 + 3, so 0.5 · √3 / (2 + 1)
        >>> moved.tensors["w"]
        tensor([0.2887])
    """

    def __init__(
        self,
        lr: float = 1e-3,
        tau: float = 1e-3,
        beta1: float = 0.0,
        weights: Weighting = "size",
        score: str = "val/accuracy",
    ) -> None:
        super().__init__(lr, tau, beta1, weights, score)

    def second(self, v: Tensor, square: Tensor) -> Tensor:
        """The sum of τ² and all Δ²."""
        return v + square


class FedAdam(AdaptiveServerOptimizer):
    r"""Adam on the server (FedAdam).

    .. math:: v \leftarrow \beta_2 v + (1 - \beta_2) \Delta^2

    Reddi et al., "Adaptive Federated Optimization", 2021, Algorithm 2, https://arxiv.org/abs/2003.00295: m₀ = 0,
    v₀ = τ², no bias correction. Public implementations differ: Flower has v₀ = 0 and Adam's bias correction, so that
    its first step is about η whatever Δ is; OpenFedLLM squares the momentum instead of Δ, has m = Δ after the first
    round, and takes means without weights.

    Args:
        lr: η > 0, the server's learning rate.
        tau: τ > 0, the degree of adaptivity.
        beta1: β₁, in [0, 1).
        beta2: β₂, in [0, 1).
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> import torch
        >>> from lit_fed.payload import Payload
        >>> from lit_fed import Update
        >>> rule = FedAdam(lr=1.0, tau=1.0, beta1=0.5, beta2=0.5)
        >>> sent = [Update("a", Payload({"w": torch.tensor([7.0 ** 0.5])}), num_samples=1)]
        >>> moved = rule(sent, previous=Payload({"w": torch.tensor([0.0])}))  # m = √7 / 2, v = 4
        >>> moved.tensors["w"]  # m / (2 + 1)
        tensor([0.4410])
    """

    def __init__(
        self,
        lr: float = 1e-3,
        tau: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weights: Weighting = "size",
        score: str = "val/accuracy",
    ) -> None:
        super().__init__(lr, tau, beta1, weights, score)
        self.beta2 = require_fraction("model.aggregation.beta2", beta2)

    def second(self, v: Tensor, square: Tensor) -> Tensor:
        """The running mean of Δ²."""
        return self.beta2 * v + (1 - self.beta2) * square


class FedYogi(AdaptiveServerOptimizer):
    r"""Yogi on the server (FedYogi).

    .. math:: v \leftarrow v - (1 - \beta_2) \Delta^2 \,\mathrm{sign}(v - \Delta^2)

    Reddi et al., "Adaptive Federated Optimization", 2021, Algorithm 2, https://arxiv.org/abs/2003.00295: m₀ = 0,
    v₀ = τ², no bias correction. Where FedAdam forgets large changes at the rate β₂, v falls here by no more than
    (1 − β₂) Δ² a round. Flower has v₀ = 0; OpenFedLLM squares the momentum instead of Δ, has m = Δ after the first
    round, and takes means without weights.

    Args:
        lr: η > 0, the server's learning rate.
        tau: τ > 0, the degree of adaptivity.
        beta1: β₁, in [0, 1).
        beta2: β₂, in [0, 1).
        weights: What a client's weight w_k is proportional to, as in ``WeightedAverage``.
        score: The client metric used by ``validation``, larger is better.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> import torch
        >>> from lit_fed.payload import Payload
        >>> from lit_fed import Update
        >>> rule = FedYogi(lr=1.0, tau=1.0, beta1=0.0, beta2=0.5)
        >>> sent = [Update("a", Payload({"w": torch.tensor([6.0 ** 0.5])}), num_samples=1)]
        >>> moved = rule(sent, previous=Payload({"w": torch.tensor([0.0])}))  # v = 1 + 3
        >>> moved.tensors["w"]  # √6 / (2 + 1)
        tensor([0.8165])
    """

    def __init__(
        self,
        lr: float = 1e-3,
        tau: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.99,
        weights: Weighting = "size",
        score: str = "val/accuracy",
    ) -> None:
        super().__init__(lr, tau, beta1, weights, score)
        self.beta2 = require_fraction("model.aggregation.beta2", beta2)

    def second(self, v: Tensor, square: Tensor) -> Tensor:
        """One step of v towards Δ², whose size is (1 − β₂) Δ²."""
        return v - (1 - self.beta2) * square * (v - square).sign()
