"""Selectors without clusters: they choose the most central of all answers to a prompt."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from lit_fed.methods.semantic_consensus.ballots import Ballots, Floats
from lit_fed.methods.semantic_consensus.consensus import Consensus, PromptConsensus
from lit_fed.methods.semantic_consensus.report import report
from lit_fed.methods.semantic_consensus.same_answer import normalised
from lit_fed.methods.semantic_consensus.selectors.encoding_selector import EncodingSelector
from lit_fed.methods.semantic_consensus.selectors.exact_votes import exact_votes
from lit_fed.methods.semantic_consensus.selectors.similarities import (
    SimilarAnswers,
    first_of_the_best,
    similar_answers,
)


class CentralAnswer(EncodingSelector):
    """Chooses the answer of the least distance to all; none where several different ones are as near.

    Its confidence is its mean similarity to all answers, by their votes, at least 0; shares, agreement and the number
    of different answers are those of an exact vote, since there are no clusters.
    """

    @abstractmethod
    def distances(self, answers: SimilarAnswers) -> Floats:
        """Each answer's distance to the others, [N], weighted by the votes.

        Args:
            answers: The votes on a prompt.
        """

    def __call__(self, ballots: Ballots, seed: int) -> Consensus:
        """The consensus; the seed plays no part."""
        found = similar_answers(ballots, self.encoder)
        return report(ballots, [self._choose(answers) for answers in found])

    def _choose(self, answers: SimilarAnswers) -> PromptConsensus:
        prompt = answers.prompt
        if not prompt.answers:
            return PromptConsensus()
        votes = exact_votes(prompt)
        total = prompt.weights.sum()
        best, as_good = first_of_the_best(-self.distances(answers), prompt.weights)
        tied = len({normalised(prompt.answers[i]) for i in as_good}) > 1
        similarity = float(np.clip(answers.cosines[best] @ prompt.weights / total, 0, 1))
        return PromptConsensus(
            label=None if tied else prompt.answers[best],
            confidence=0.0 if tied else similarity,
            share=min(float(votes.weights.max() / total), 1.0),
            agreement=votes.agreement,
            clusters=len(votes.answers),
        )
