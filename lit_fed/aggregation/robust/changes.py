"""Changes: what a round's clients have changed, as vectors that robust rules compare and combine."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Final

import torch
from torch import Tensor

from lit_fed.aggregation.aggregation import Basis
from lit_fed.payload import Payload
from lit_fed.update import Update

if TYPE_CHECKING:
    from lit_fed.backbones import Backbone

TOO_LARGE: Final = (
    "the clients' changes are expected to have finite norms, but one is too large for float64"
)
"""What is said of a change whose norm is no number."""

CoordinateRule = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Combines values [K, n] of K clients at n coordinates: the result [n], and the sum of each client's weights [K]."""


class Changes(ABC):
    """The changes Δ_k of K clients from what they downloaded; see :class:`Geometry` for what they are changes of.

    All numbers are in float64.
    """

    @abstractmethod
    def squared_norms(self) -> Tensor:
        """‖Δ_k‖², [K]."""

    @abstractmethod
    def inner_products(self) -> Tensor:
        """⟨Δ_j, Δ_k⟩, [K, K]."""

    @abstractmethod
    def combined(
        self,
        coefficients: Tensor,
        noise: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Payload:
        """The next broadcast: what was there before, changed by Σ c_k Δ_k and by Gaussian noise.

        Args:
            coefficients: c_k, [K]; what their sum lacks of 1 stays as it was.
            noise: Standard deviation of the noise at every coordinate. 0: none.
            generator: What it is drawn from; see :func:`unit_noise`.
        """

    @abstractmethod
    def combined_by_coordinate(self, rule: CoordinateRule) -> tuple[Payload, Tensor]:
        """The next broadcast, of which each coordinate is changed by what a rule makes of the clients' changes there.

        Args:
            rule: The rule.

        Returns:
            The broadcast, and what each client counts for, as the mean over all coordinates, [K].
        """

    def norms(self) -> Tensor:
        """‖Δ_k‖, [K].

        Raises:
            ValueError: If one is too large for float64.
        """
        return _finite(self.squared_norms()).clamp(min=0).sqrt()

    def finite_inner_products(self) -> Tensor:
        """⟨Δ_j, Δ_k⟩, [K, K].

        Raises:
            ValueError: If a norm is too large for float64.
        """
        return _finite(self.inner_products())

    def squared_distances(self) -> Tensor:
        """‖Δ_j − Δ_k‖², [K, K], of which the diagonal is 0.

        Raises:
            ValueError: If a norm is too large for float64.
        """
        inner = self.finite_inner_products()
        squares = inner.diagonal()
        distances = (squares[:, None] + squares - 2 * inner).clamp(min=0)
        return distances.fill_diagonal_(0)

    def cosine_distances(self) -> Tensor:
        """1 − cos(Δ_j, Δ_k), [K, K], of which the diagonal is 0; 1 where a client has changed nothing.

        Raises:
            ValueError: If a norm is too large for float64.
        """
        inner = self.finite_inner_products()
        norms = inner.diagonal().clamp(min=0).sqrt()
        scale = norms[:, None] * norms
        cosines = torch.where(scale > 0, inner / scale, 0.0).clamp(-1, 1)
        return (1 - cosines).fill_diagonal_(0)


class Geometry(ABC):
    """What a robust rule takes for a client's change: which vectors' norms, angles and coordinates it goes by.

    Attributes:
        basis: That of LoRA's factors in a broadcast; see :attr:`lit_fed.aggregation.Aggregation.basis`.
    """

    basis: ClassVar[Basis] = "kept"

    def setup(self, backbone: Backbone, rule: str) -> None:
        """Make ready once, when the method is built. Default: nothing.

        Args:
            backbone: What the method trains.
            rule: The class of the rule, for messages.

        Raises:
            ValueError: If the backbone's adapter has no such changes.
        """
        return

    @abstractmethod
    def changes(self, updates: Sequence[Update], previous: Payload) -> Changes:
        """The changes of a round.

        Args:
            updates: At least one.
            previous: The broadcast that the clients started from.

        Raises:
            ValueError: If the clients or the broadcast hold other tensors than the first client.
        """


def unit_noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Gaussian noise with the standard deviation 1, of a shape and dtype.

    Args:
        like: Has them.
        generator: What it is drawn from, four times for each value, which hides what the rounding of a single draw
            tells of it (Holohan and Braghin, 2021, https://arxiv.org/abs/2107.10138). None: torch's own, once.
    """
    draws = 1 if generator is None else 4
    total = torch.zeros_like(like)
    for _ in range(draws):
        total += torch.randn(like.shape, generator=generator, dtype=like.dtype)
    return total / math.sqrt(draws)


def _finite(values: Tensor) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise ValueError(TOO_LARGE)
    return values
