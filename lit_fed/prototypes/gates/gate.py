"""The base class of gates, which decide by prototypes what rows a client trains on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from lit_fed.prototypes.prototype_set import PrototypeSet


@dataclass(frozen=True)
class Judgement:
    """What a gate says of some rows.

    Attributes:
        kept: Which rows are trained on, [N], bool.
        assigned: The place of each row's nearest prototype, [N].
        similarity: The cosine of each row and that prototype, [N].
        reasons: Of each row why it is dropped; empty where it is kept, [N].
    """

    kept: Tensor
    assigned: Tensor
    similarity: Tensor
    reasons: tuple[str, ...]


NOT_FINITE: Final = "its vector is not finite"
"""Why a row is dropped that no gate can judge."""


class Gate(ABC):
    """Judges rows by their representations, made by a trusted encoder, and their labels."""

    # Not abstract: most gates need the prototypes alone.
    def check(self, prototypes: PrototypeSet) -> None:  # noqa: B027
        """Say whether it can go by prototypes.

        Args:
            prototypes: Of the references.

        Raises:
            ValueError: If it cannot.
        """

    def fit(
        self,
        states: Tensor,
        labels: Tensor,
        held_out_states: Tensor,
        held_out_labels: Tensor,
    ) -> dict[str, Tensor]:
        """Server: what it needs beside the prototypes, which is sent with them. Default: nothing.

        Args:
            states: Representations of the references that the encoder was fitted on, [N, d].
            labels: Their classes, [N].
            held_out_states: Those of references that it has not seen, [n, d].
            held_out_labels: Their classes, [n].

        Raises:
            ValueError: If there are not enough of them.
        """
        return {}

    @abstractmethod
    def judge(
        self,
        prototypes: PrototypeSet,
        fitted: Mapping[str, Tensor],
        states: Tensor,
        labels: Tensor,
    ) -> Judgement:
        """Client: which rows are trained on; a gate that goes by representations drops a row whose own is not finite.

        Args:
            prototypes: Of the references.
            fitted: What :meth:`fit` gave.
            states: Representations of the rows, [N, d].
            labels: Their labels, [N]; −100 where a row has none, which is kept, since it has no loss.
        """


def nearest(prototypes: PrototypeSet, states: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row the place of its nearest prototype and their cosine, [N] each, NaN of one that is not finite.

    Args:
        prototypes: The prototypes.
        states: Representations, [N, d].
    """
    found = prototypes.similarities(states).max(-1)
    return found.indices, found.values


def class_name(prototypes: PrototypeSet, label: int) -> str:
    """What a class is called, for messages.

    Args:
        prototypes: They have the names.
        label: Its number.

    Example:
        >>> import torch
        >>> zero = torch.tensor([0])
        >>> one = PrototypeSet(torch.tensor([[1.0]]), zero, zero, 0, "a1b2", labels=("good",))
        >>> class_name(one, 0), class_name(one, 7)
        ('good', '7')
    """
    known = prototypes.labels
    return known[label] if 0 <= label < len(known) else str(label)
