"""Radial consensus: the answer nearest the weighted centre of all answers."""

from __future__ import annotations

from lit_fed.methods.semantic_consensus.ballots import Floats
from lit_fed.methods.semantic_consensus.selectors.central_answer import CentralAnswer
from lit_fed.methods.semantic_consensus.selectors.similarities import SimilarAnswers


class RadialConsensus(CentralAnswer):
    r"""The answer nearest the centre of all answers, which is their mean by the votes.

    Nguyen et al., "Beyond Majority Voting: Efficient Best-Of-N with Radial Consensus Score" (2026),
    https://arxiv.org/abs/2604.12196, with the Euclidean (Fréchet) mean and the vote weights:

    .. math:: \arg\min_i \lVert e_i - c \rVert, \quad c = \sum_j w_j e_j / \sum_j w_j.

    Of unit vectors it is the answer of the highest mean similarity to all. It needs no majority and abstains only where
    several different answers are as near, as two of two clients with equal weights are. Its confidence is the answer's
    mean similarity to all answers, by their votes, at least 0.

    Args:
        encoder: What makes vectors of answers; default: :class:`HashedNgramEncoder`.

    Example:
        >>> import torch
        >>> from lit_fed.methods.semantic_consensus import Ballots
        >>> answers = (("It is Paris.",), ("It is Paris, I think.",), ("Paris",), ("London",))
        >>> RadialConsensus()(Ballots(tuple("abcd"), answers, torch.ones(4, 1)), seed=0).labels
        ('It is Paris.',)
    """

    def distances(self, answers: SimilarAnswers) -> Floats:
        """Each answer's distance to the centre but for what is the same for all: half its square, times the weight."""
        return -(answers.cosines @ answers.prompt.weights)
