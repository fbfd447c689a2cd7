"""Consensus: one label a prompt made of the clients' answers, with its confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Consensus:
    """What the server makes of one round's answers.

    Attributes:
        labels: [U], a text, or None where the consensus abstains.
        confidence: [U], float64 in [0, 1]; 0 where it abstains.
        metrics: What the round's report has, by name; NaN where there is nothing to tell. See ``report``.
    """

    labels: tuple[str | None, ...]
    confidence: Tensor
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class PromptConsensus:
    """What a selector makes of the answers to one prompt; the default is what it makes of none.

    Attributes:
        label: A text, or None where it abstains.
        confidence: In [0, 1]; 0 where it abstains.
        share: The share of the vote weight that stands behind the strongest answer, in [0, 1], NaN without votes.
        agreement: The share of pairs of clients that say the same, in [0, 1], NaN with fewer than two votes.
        clusters: How many different answers there are.
        silhouette: Mean silhouette of the answers, in [-1, 1]; NaN where it is not defined.
    """

    label: str | None = None
    confidence: float = 0.0
    share: float = float("nan")
    agreement: float = float("nan")
    clusters: int = 0
    silhouette: float = float("nan")
