"""Random client: one answer by chance, which every other selector has to beat."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from lit_fed.methods.semantic_consensus.ballots import Ballots, PromptBallots
from lit_fed.methods.semantic_consensus.consensus import Consensus, PromptConsensus
from lit_fed.methods.semantic_consensus.report import report
from lit_fed.methods.semantic_consensus.selectors.exact_votes import exact_votes
from lit_fed.methods.semantic_consensus.selectors.selector import Selector


class RandomClient(Selector):
    """For each prompt the answer of one of the clients that have voted, each as likely, whatever its weight.

    It is the null in a comparison of selectors. It knows nothing of how sure it is: its confidence is 1.

    Example:
        >>> import torch
        >>> answers = (("yes", None), ("no", None))
        >>> found = RandomClient()(Ballots(("a", "b"), answers, torch.ones(2, 2)), seed=0)
        >>> found.labels, found.confidence
        (('no', None), tensor([1., 0.], dtype=torch.float64))
    """

    knows_confidence: ClassVar[bool] = False

    def __call__(self, ballots: Ballots, seed: int) -> Consensus:
        """The consensus by the seed."""
        draws = np.random.default_rng(seed).random(ballots.num_prompts)
        return report(
            ballots,
            [_draw(prompt, draw) for prompt, draw in zip(ballots.prompts(), draws, strict=True)],
        )


def _draw(prompt: PromptBallots, draw: float) -> PromptConsensus:
    if not prompt.answers:
        return PromptConsensus()
    votes = exact_votes(prompt)
    return PromptConsensus(
        label=prompt.answers[int(draw * len(prompt.answers))],
        confidence=1.0,
        share=min(float(votes.weights.max() / votes.weights.sum()), 1.0),
        agreement=votes.agreement,
        clusters=len(votes.answers),
    )
