"""Exact votes: who gives the same answer, by its normalised text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lit_fed.methods.semantic_consensus.ballots import Floats, Integers, PromptBallots
from lit_fed.methods.semantic_consensus.same_answer import normalised


@dataclass(frozen=True)
class ExactVotes:
    """The answers to one prompt, those that are the same as one.

    Attributes:
        answers: Each different answer as the client of the heaviest vote among those that give it writes it, the
            first of them where several are as heavy; in the order in which they come, [C].
        weights: Their vote weights, [C].
        of_client: Which of them each voting client gives, [N].
    """

    answers: tuple[str, ...]
    weights: Floats
    of_client: Integers

    @property
    def agreement(self) -> float:
        """The share of pairs of clients that say the same; NaN with fewer than two."""
        return pair_agreement(np.bincount(self.of_client))


def exact_votes(prompt: PromptBallots) -> ExactVotes:
    """Count the votes on one prompt.

    Args:
        prompt: The votes, at least one.

    Example:
        >>> votes = exact_votes(PromptBallots(np.arange(3), ("Yes", "no", "yes."), np.ones(3)))
        >>> votes.answers, votes.weights.tolist(), votes.of_client.tolist()
        (('Yes', 'no'), [2.0, 1.0], [0, 1, 0])
    """
    places: dict[str, int] = {}
    of_client = np.array([places.setdefault(normalised(a), len(places)) for a in prompt.answers])
    weights = np.bincount(of_client, prompt.weights).astype(np.float64)
    written: dict[int, tuple[float, str]] = {}
    for place, answer, weight in zip(of_client, prompt.answers, prompt.weights, strict=True):
        if place not in written or weight > written[place][0]:
            written[place] = (weight, answer)
    answers = tuple(written[place][1] for place in range(len(places)))
    return ExactVotes(answers, weights, of_client)


def pair_agreement(sizes: Integers) -> float:
    """The share of pairs of clients that are in the same group; NaN with fewer than two clients.

    Args:
        sizes: How many clients each group has.

    Example:
        >>> pair_agreement(np.array([2, 1]))
        0.3333333333333333
    """
    clients = int(sizes.sum())
    if clients < 2:
        return float("nan")
    return float((sizes * (sizes - 1)).sum() / (clients * (clients - 1)))
