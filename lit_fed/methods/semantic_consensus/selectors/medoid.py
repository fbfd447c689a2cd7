"""Medoid: the answer nearest all others, as minimum Bayes risk decoding chooses it."""

from __future__ import annotations

import numpy as np

from lit_fed.methods.semantic_consensus.ballots import Floats
from lit_fed.methods.semantic_consensus.selectors.central_answer import CentralAnswer
from lit_fed.methods.semantic_consensus.selectors.similarities import SimilarAnswers


class Medoid(CentralAnswer):
    r"""The answer of the least expected distance to all answers, by their votes, without clusters.

    Minimum Bayes risk decoding, Kumar and Byrne (2004), https://aclanthology.org/N04-1022, over the clients' answers:

    .. math:: \arg\min_i \sum_j w_j \lVert e_i - e_j \rVert = \arg\min_i \sum_j w_j \sqrt{2 - 2 \cos(e_i, e_j)}.

    With the distances squared it would be :class:`RadialConsensus`; without the square an answer far from all others
    counts for less. It needs no majority and abstains only where several different answers are as near, as two of two
    clients with equal weights are. Its confidence is the answer's mean similarity to all answers, by their votes, at
    least 0.

    Args:
        encoder: What makes vectors of answers; default: :class:`HashedNgramEncoder`.

    Example:
        >>> import torch
        >>> from lit_fed.methods.semantic_consensus import Ballots
        >>> answers = (("It is Paris.",), ("It is Paris, I think.",), ("Paris",), ("London",))
        >>> Medoid()(Ballots(tuple("abcd"), answers, torch.ones(4, 1)), seed=0).labels
        ('It is Paris.',)
    """

    def distances(self, answers: SimilarAnswers) -> Floats:
        """Each answer's distance to all answers, by their votes."""
        distances: Floats = np.sqrt(np.maximum(2 - 2 * answers.cosines, 0))
        return distances @ answers.prompt.weights
