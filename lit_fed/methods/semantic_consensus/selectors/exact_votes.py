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
        answers: Each different answer as most of the votes for it write it, the first way where several have as many;
            in the order in which they come, [C].
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
    written: list[dict[str, float]] = [{} for _ in places]
    for place, answer, weight in zip(of_client, prompt.answers, prompt.weights, strict=True):
        written[place][answer] = written[place].get(answer, 0.0) + weight
    answers = tuple(max(ways, key=ways.__getitem__) for ways in written)
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
