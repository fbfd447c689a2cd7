"""The interface of a consensus: the clients' aggregate prediction P̄, and how it is exchanged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol

import torch
from torch import Tensor

from lit_fed.aggregation import Aggregation
from lit_fed.backbones import Backbone, Prediction
from lit_fed.losses import TopK, masked_mean
from lit_fed.methods.teachers import Teacher
from lit_fed.payload import Payload
from lit_fed.specification import Specification
from lit_fed.timers import Timers
from lit_fed.update import Update

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule

Batch = Mapping[str, Tensor]
PART: Final = "consensus"
"""Name of the payload's part that is exchanged beside the weights."""


class Passes(Protocol):
    """What a consensus may ask of the method that has it: forward passes, and batches for them."""

    @property
    def backbone(self) -> Backbone:
        """The student's model and its adapters' weights."""

    @property
    def teacher(self) -> Teacher:
        """The teacher."""

    @property
    def temperature(self) -> float:
        """T of all soft predictions."""

    @property
    def timers(self) -> Timers:
        """Where the seconds of a pass are counted."""

    @property
    def data(self) -> FederatedDataModule:
        """The federation's data, of which a client sees the public set."""

    def batches(
        self, rows: Dataset, seed: int | None = None, batch_size: int | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Rows in batches on the student's device, shuffled if there is a seed."""

    def log(self, name: str, value: Any) -> None:
        """Log a number of the step under way."""

    def __call__(self, batch: Batch, output_hidden: bool = False) -> Any:
        """The student's pass, a :class:`~lit_fed.backbones.Prediction`."""


class Guidance(NamedTuple):
    """What the third term of L_DDG is about, in the order of ``aggregate_kl_loss``.

    Attributes:
        student: The client's clean pass on the rows.
        teacher: The teacher's pass on them.
        consensus: P̄ of these rows; None where there is none yet.
        weight: Weights of the rows, [B].
    """

    student: Prediction
    teacher: Prediction | None = None
    consensus: Tensor | TopK | None = None
    weight: Tensor | None = None


class Consensus(ABC):
    """A way of making and exchanging P̄, the ``consensus`` argument of DDG.

    P̄ is one round old, and in round 0 there is none: L_aggregate is left out then.

    Attributes:
        on_private: Whether δ is taken on the client's own rows, so that the teacher has to see them.
        on_server: Whether the server uses P̄, so that it is exchanged also where λ3 = 0.
    """

    on_private: ClassVar[bool] = True
    on_server: bool = False

    @property
    def needs_whole_weights(self) -> bool:
        """Whether it computes with all of θ as clients send it or as it is broadcast. Default: no."""
        return False

    def attach(self, backbone: Backbone) -> None:
        """Add to the student's model what is needed; called once. Default: nothing."""
        return

    def check_split(self) -> None:
        """Say whether batches can be split over processes.

        Raises:
            ValueError: Always, for each process would see predictions of a part of the rows.
        """
        raise ValueError(
            "`model.lambda_aggregate` and `model.consensus.server_steps` are expected to be 0 where a batch is "
            "split over processes, each of which would see predictions of a part of the rows only, but "
            f"`model.consensus` is {type(self).__name__}"
        )

    def check(self, passes: Passes, rule: Aggregation) -> None:
        """Say before a federation trains what is missing.

        Args:
            passes: The method.
            rule: How θ_g is made.

        Raises:
            ValueError: If something is.
        """
        if self.needs_whole_weights and not rule.sends_everything:
            raise ValueError(
                f"`model.consensus` {type(self).__name__} computes with all of the weights, which expects an "
                f"aggregation rule that lets them all travel, but `model.aggregation` is {type(rule).__name__}"
            )

    @abstractmethod
    def receive(self, passes: Passes, broadcast: Payload) -> None:
        """Client: take what :meth:`combine` gave after the last round; an empty payload in round 0."""

    @abstractmethod
    def guidance(
        self, passes: Passes, batch: Batch, student: Prediction, teacher: Prediction | None
    ) -> Guidance:
        """Client: the rows that it learns from P̄ on in this step.

        Args:
            passes: The method.
            batch: The client's own batch.
            student: The client's clean pass on it.
            teacher: The teacher's pass on it, where the method has made one.
        """

    @abstractmethod
    def send(self, passes: Passes) -> Payload:
        """Client: what it sends beside its weights."""

    def expected(self, passes: Passes) -> Specification | None:
        """Server: what a client sends by :meth:`send`. Default: None, which is whatever it sends.

        Args:
            passes: The method.
        """
        return None

    def check_sent(self, passes: Passes, sent: Payload) -> None:
        """Server: say what of it cannot be combined, beyond :meth:`expected`. Default: nothing.

        Args:
            passes: The method.
            sent: What a client sends by :meth:`send`.

        Raises:
            ValueError: If something cannot; the client is left out.
        """
        return

    def aggregate(self, passes: Passes, updates: Sequence[Update], rule: Aggregation) -> Payload:
        """Server: what is broadcast beside the weights.

        Args:
            passes: The method.
            updates: The round's updates.
            rule: How θ_g is made: a client that it leaves out has no say in P̄ either.
        """
        weighted = zip(updates, rule.weights(updates), strict=True)
        counted = [(update.payload, weight) for update, weight in weighted if weight > 0]
        return self.combine(
            passes,
            [payload.main for payload, _ in counted],
            [payload.parts.get(PART, Payload()) for payload, _ in counted],
            torch.tensor([weight for _, weight in counted]),
        )

    @abstractmethod
    def combine(
        self,
        passes: Passes,
        uploads: Sequence[Payload],
        sent: Sequence[Payload],
        weights: Tensor,
    ) -> Payload:
        """Server: P̄, or what makes it, of the clients that count.

        Args:
            passes: The method.
            uploads: Their θ_k.
            sent: What they sent by :meth:`send`.
            weights: w_k > 0, [K].
        """

    def distil(self, passes: Passes, average: Payload, consensus: Payload) -> Payload:
        """Server: θ_g after it has learnt from P̄. Default: the average itself.

        Args:
            passes: The method.
            average: θ_g = Σ w_k θ_k.
            consensus: Of :meth:`aggregate`.
        """
        return average


class NoConsensus(Consensus):
    """Where λ3 = 0: no P̄ is made, and none is exchanged."""

    on_private: ClassVar[bool] = False

    def check_split(self) -> None:
        """Nothing needs a whole batch."""

    def receive(self, passes: Passes, broadcast: Payload) -> None:
        """Nothing is received."""

    def guidance(
        self, passes: Passes, batch: Batch, student: Prediction, teacher: Prediction | None
    ) -> Guidance:
        """No rows."""
        return Guidance(student)

    def expected(self, passes: Passes) -> Specification:
        """Nothing."""
        return Specification()

    def send(self, passes: Passes) -> Payload:
        """Nothing."""
        return Payload()

    def aggregate(self, passes: Passes, updates: Sequence[Update], rule: Aggregation) -> Payload:
        """Nothing."""
        return Payload()

    def combine(
        self,
        passes: Passes,
        uploads: Sequence[Payload],
        sent: Sequence[Payload],
        weights: Tensor,
    ) -> Payload:
        """Nothing."""
        return Payload()


def log_alpha(log: Callable[[str, Tensor], None], alpha: Tensor, mask: Tensor) -> None:
    """Log α's mean as ``train/alpha``, its bounds as ``…_min`` and ``…_max``; nothing without a row.

    Args:
        log: The method's.
        alpha: α of each example or token, [B] or [B, L].
        mask: Where the loss is taken.
    """
    if mask.any():
        log("train/alpha", masked_mean(alpha, mask))
        log("train/alpha_min", alpha.masked_fill(~mask, 1.0).amin())
        log("train/alpha_max", alpha.masked_fill(~mask, 0.0).amax())
