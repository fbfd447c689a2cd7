"""Where the clients' aggregate prediction P̄ comes from: the interface of DDG's variants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from lit_fed.backbones import Prediction
from lit_fed.losses import TopK

if TYPE_CHECKING:
    from lit_fed.methods.guidance import GuidanceMixin


@dataclass(frozen=True)
class Guided:
    """What the third term of L_DDG is about.

    Attributes:
        student: The client's clean pass on the rows.
        teacher: The teacher's pass on them.
        consensus: P̄ of these rows; None where there is none yet.
        weight: Weights of the rows, [B].
    """

    student: Prediction
    teacher: Prediction | None
    consensus: Tensor | TopK | None
    weight: Tensor | None = None


class Guide(ABC):
    """A way of making and exchanging P̄, one of the values of ``aggregate_on``.

    Args:
        module: The method, whose passes it uses.
    """

    def __init__(self, module: GuidanceMixin) -> None:
        self.module = module

    @abstractmethod
    def check(self) -> None:
        """Say before a federation trains what is missing.

        Raises:
            ValueError: If something is.
        """

    @abstractmethod
    def receive(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what :meth:`combine` gave after the last round; nothing in round 0."""

    @abstractmethod
    def guided(
        self, batch: Mapping[str, Tensor], student: Prediction, teacher: Prediction | None
    ) -> Guided:
        """The rows that the client learns from P̄ on in this step.

        Args:
            batch: The client's own batch.
            student: The client's clean pass on it.
            teacher: The teacher's pass on it, where the method has made one.
        """

    @abstractmethod
    def send(self) -> dict[str, Tensor]:
        """Client: what it sends beside its weights."""

    @abstractmethod
    def combine(
        self,
        adapters: Sequence[Mapping[str, Tensor]],
        sent: Sequence[Mapping[str, Tensor]],
        weights: Tensor,
    ) -> dict[str, Tensor]:
        """Server: what is broadcast beside the weights.

        Args:
            adapters: θ_k of the round's clients.
            sent: What they sent by :meth:`send`.
            weights: w_k, [K].
        """
