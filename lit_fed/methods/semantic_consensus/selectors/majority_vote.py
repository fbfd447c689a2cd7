"""Majority vote: the answer that more than half of the vote weight gives, word for word."""

from __future__ import annotations

import numpy as np

from lit_fed.methods.semantic_consensus.ballots import Ballots, PromptBallots
from lit_fed.methods.semantic_consensus.consensus import Consensus, PromptConsensus
from lit_fed.methods.semantic_consensus.randomized_response import RandomizedResponse
from lit_fed.methods.semantic_consensus.report import report
from lit_fed.methods.semantic_consensus.selectors.exact_votes import exact_votes
from lit_fed.methods.semantic_consensus.selectors.selector import Selector
from lit_fed.methods.semantic_consensus.selectors.strict_majority import is_strict_majority


class MajorityVote(Selector):
    r"""The weighted vote on exact answers, for classification and short closed answers.

    Abourayya et al., "Little is Enough: Boosting Privacy by Sharing Only Hard Labels in Federated Semi-Supervised
    Learning" (2025), https://arxiv.org/abs/2310.05696, with weights. There a tie goes to the lowest label; here it
    abstains, as does every answer without more than half of the weight of those who have voted. Answers are the
    same where their normalised texts are, see :func:`~lit_fed.methods.semantic_consensus.same_answer.normalised`.
    The label is the answer as most of the votes for it write it; its confidence is its share of the weight.

    Where clients have answered by randomised response, a share is the unbiased estimate of that before the noise, cut
    to [0, 1], s = (share - q) / (p - q). It is a majority where it is beyond one half by its standard error,

    .. math:: s - \frac{1}{2} > \frac{\sqrt{\sum_k w_k^2}}{\sum_k w_k} \cdot
        \frac{\sqrt{s \, p (1 - p) + (1 - s) \, q (1 - q)}}{p - q},

    with the votes' weights w, so that few clients with a small ε, whose votes are mostly noise, have none: of eight
    with six labels there is no label with ε = 1, and most have one with ε = 3. If several labels have more than half,
    the largest wins.

    Args:
        response: The randomised response by which the clients have answered, if they have. None: what was sent is
            counted.

    Example:
        >>> import torch
        >>> answers = (("yes", "yes"), ("Yes.", "no"), ("no", None))
        >>> found = MajorityVote()(Ballots(("a", "b", "c"), answers, torch.ones(3, 2)), seed=0)
        >>> found.labels, found.confidence
        (('yes', None), tensor([0.6667, 0.0000], dtype=torch.float64))
    """

    def __init__(self, response: RandomizedResponse | None = None) -> None:
        self.response = response

    def __call__(self, ballots: Ballots, seed: int) -> Consensus:
        """The consensus; the seed plays no part."""
        return report(ballots, [_vote(prompt, self.response) for prompt in ballots.prompts()])


def _vote(prompt: PromptBallots, response: RandomizedResponse | None) -> PromptConsensus:
    if not prompt.answers:
        return PromptConsensus()
    votes = exact_votes(prompt)
    winner = int(votes.weights.argmax())
    shares = votes.weights / votes.weights.sum()
    share = float(shares[winner])
    tied = np.count_nonzero(np.isclose(shares, share)) > 1
    sure = share if response is None else float(response.unbiased(np.array(share)))
    sure = min(max(sure, 0.0), 1.0)
    error = 0.0 if response is None else response.standard_error(sure, prompt.weights)
    wins = is_strict_majority(sure - error) and not tied
    return PromptConsensus(
        label=votes.answers[winner] if wins else None,
        confidence=sure if wins else 0.0,
        share=share,
        agreement=votes.agreement,
        clusters=len(votes.answers),
    )
