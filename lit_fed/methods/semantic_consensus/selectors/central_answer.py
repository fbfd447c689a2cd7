"""Selectors without clusters: they choose the most central of all answers to a prompt."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from lit_fed.methods.semantic_consensus.ballots import Ballots, Floats
from lit_fed.methods.semantic_consensus.consensus import Consensus, PromptConsensus
from lit_fed.methods.semantic_consensus.report import report
from lit_fed.methods.semantic_consensus.selectors.encoding_selector import EncodingSelector
from lit_fed.methods.semantic_consensus.selectors.exact_votes import exact_votes
from lit_fed.methods.semantic_consensus.selectors.similarities import (
    SimilarAnswers,
    best_answers,
    similar_answers,
)


class CentralAnswer(EncodingSelector):
    """Chooses the answer of the least distance to all; of different ones that are as near, the one of most votes.

    Where these have as many votes as well, there is no label.

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
        label, *others = best_answers(-self.distances(answers), prompt.answers, prompt.weights)
        confidence = 0.0
        if not others:
            similarities = answers.cosines[prompt.answers.index(label)]
            confidence = float(np.clip(similarities @ prompt.weights / total, 0, 1))
        return PromptConsensus(
            label=None if others else label,
            confidence=confidence,
            share=min(float(votes.weights.max() / total), 1.0),
            agreement=votes.agreement,
            clusters=len(votes.answers),
        )
