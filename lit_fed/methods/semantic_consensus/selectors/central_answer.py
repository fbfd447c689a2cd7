"""The most central of all answers to a prompt, for selectors without clusters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lit_fed.methods.semantic_consensus.ballots import Floats
from lit_fed.methods.semantic_consensus.consensus import PromptConsensus
from lit_fed.methods.semantic_consensus.same_answer import normalised
from lit_fed.methods.semantic_consensus.selectors.exact_votes import exact_votes
from lit_fed.methods.semantic_consensus.selectors.similarities import (
    SimilarAnswers,
    first_of_the_best,
)


def central_answer(
    answers: SimilarAnswers, distance: Callable[[SimilarAnswers], Floats]
) -> PromptConsensus:
    """The answer of the least distance; none where several different ones are as near.

    Args:
        answers: The votes on a prompt.
        distance: Gives each answer's distance to the others, [N], weighted by the votes.

    Returns:
        The answer. Its confidence is its mean similarity to all answers, by their votes, at least 0; shares, agreement
        and the number of different answers are those of an exact vote, since there are no clusters.
    """
    prompt = answers.prompt
    if not prompt.answers:
        return PromptConsensus()
    votes = exact_votes(prompt)
    total = prompt.weights.sum()
    best, as_good = first_of_the_best(-distance(answers), prompt.weights)
    tied = len({normalised(prompt.answers[i]) for i in as_good}) > 1
    similarity = float(np.clip(answers.cosines[best] @ prompt.weights / total, 0, 1))
    return PromptConsensus(
        label=None if tied else prompt.answers[best],
        confidence=0.0 if tied else similarity,
        share=min(float(votes.weights.max() / total), 1.0),
        agreement=votes.agreement,
        clusters=len(votes.answers),
    )
