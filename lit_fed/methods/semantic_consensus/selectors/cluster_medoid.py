"""Cluster medoid: the most central answer of the cluster that has more than half of the vote weight."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from lit_fed.limits import is_number
from lit_fed.methods.semantic_consensus.ballots import Ballots, Floats, Integers
from lit_fed.methods.semantic_consensus.consensus import Consensus, PromptConsensus
from lit_fed.methods.semantic_consensus.encoders.answer_encoder import AnswerEncoder
from lit_fed.methods.semantic_consensus.report import report
from lit_fed.methods.semantic_consensus.selectors.encoding_selector import EncodingSelector
from lit_fed.methods.semantic_consensus.selectors.exact_votes import pair_agreement
from lit_fed.methods.semantic_consensus.selectors.silhouette import silhouette
from lit_fed.methods.semantic_consensus.selectors.similarities import (
    SimilarAnswers,
    best_answers,
    similar_answers,
)
from lit_fed.methods.semantic_consensus.selectors.strict_majority import is_strict_majority

# The distance of a text to itself is 0 but for this.
_ROUNDING: Final = 1e-6
# So far apart that no mean over pairs is below a cut, of however many clients.
_APART: Final = 1e12


class ClusterMedoid(EncodingSelector):
    r"""Clusters the answers to a prompt by meaning and returns the medoid of the strongest cluster.

    Abourayya et al., "Beyond Parameter Aggregation: Semantic Consensus for Federated Fine-Tuning of LLMs" (2026),
    https://arxiv.org/abs/2605.11857. Answers are clustered by average linkage on their cosine distances, cut at
    ``threshold``; two that give different numbers are in no cluster together. A cluster wins with more than half of
    the vote weight of those who have voted; without one, as in a tie, the consensus abstains. The label is the winner's
    medoid, the answer of the highest similarity to the cluster, weighted by the votes; where different ones are as
    good, the one that most of the votes for them say word for word, then that of the first client. With winner W its
    confidence is

    .. math:: \frac{\sum_{k \in W} w_k}{\sum_k w_k} \cdot
        \frac{1}{|W| (|W| - 1)} \sum_{i \neq j \in W} \cos(e_i, e_j),

    where the second factor is 1 for a winner of one client and at least 0.

    Args:
        encoder: What makes vectors of answers; default: :class:`HashedNgramEncoder`.
        threshold: The mean cosine distance up to which clusters are joined, in [0, 2]; default: the encoder's.

    Raises:
        ValueError: If the threshold is out of range, or no number.

    Example:
        >>> import torch
        >>> answers = (("It is Paris.", "red"), ("It is Paris!", "blue"), ("London", "green"))
        >>> found = ClusterMedoid()(Ballots(("a", "b", "c"), answers, torch.ones(3, 2)), seed=0)
        >>> found.labels
        ('It is Paris.', None)
    """

    def __init__(
        self, encoder: AnswerEncoder | None = None, threshold: float | None = None
    ) -> None:
        if threshold is not None and not (is_number(threshold) and 0 <= threshold <= 2):
            raise ValueError(
                f"`model.selector.threshold` is expected to be a cosine distance from 0 to 2, or null for the "
                f"encoder's own, but got {threshold!r}"
            )
        super().__init__(encoder)
        self.threshold = threshold

    def __call__(self, ballots: Ballots, seed: int) -> Consensus:
        """The consensus; the seed plays no part."""
        cut = self.encoder.threshold if self.threshold is None else self.threshold
        prompts = [_choose(answers, cut) for answers in similar_answers(ballots, self.encoder)]
        return report(ballots, prompts, {"threshold": cut})


def clusters_of(
    cosines: Floats, threshold: float, apart: npt.NDArray[np.bool_] | None = None
) -> Integers:
    """The cluster of each answer, by average linkage on cosine distances.

    Args:
        cosines: [N, N].
        threshold: The mean distance up to which clusters are joined.
        apart: [N, N], which answers are in no cluster together. None: any may be.

    Returns:
        [N], numbers from 0 in no order.

    Example:
        >>> clusters_of(np.array([[1.0, 0.9, 0.1], [0.9, 1.0, 0.1], [0.1, 0.1, 1.0]]), 0.3).tolist()
        [1, 1, 0]
    """
    if len(cosines) < 2:
        return np.zeros(len(cosines), dtype=np.int64)
    distances = 1 - cosines if apart is None else np.where(apart, _APART, 1 - cosines)
    if (plain := _plain_clusters(distances <= threshold + _ROUNDING)) is not None:
        return plain
    tree = linkage(squareform(distances, checks=False), method="average")
    # SciPy's fcluster does the same, but its checks take longer than all else for few clients.
    merges = tree[tree[:, 2] <= threshold + _ROUNDING, :2].astype(int).tolist()
    owner = list(range(len(cosines) + len(merges)))
    for merged, (one, other) in reversed(list(enumerate(merges, start=len(cosines)))):
        owner[one] = owner[other] = owner[merged]
    found: Integers = np.unique(owner[: len(cosines)], return_inverse=True)[1]
    return found


def _plain_clusters(near: npt.NDArray[np.bool_]) -> Integers | None:
    """The clusters where linkage could make no others, as its numbers are: several answers at most that are all near.

    Means of distances are then within the cut among these, and beyond it elsewhere.

    Args:
        near: [N, N], which distances are within the cut.

    Returns:
        [N]; None where linkage has to tell.
    """
    several = near.sum(0) > 1
    if not np.array_equal(near, (several[:, None] & several) | np.eye(len(near), dtype=bool)):
        return None
    found: Integers = np.where(several, (~several).sum(), (~several).cumsum() - 1)
    return found


def _choose(answers: SimilarAnswers, threshold: float) -> PromptConsensus:
    prompt, cosines = answers.prompt, answers.cosines
    if not prompt.answers:
        return PromptConsensus()
    clusters = clusters_of(cosines, threshold, answers.apart)
    of_clusters = np.bincount(clusters, prompt.weights)
    winner = int(of_clusters.argmax())
    share = min(float(of_clusters[winner] / of_clusters.sum()), 1.0)
    found = PromptConsensus(
        share=share,
        agreement=pair_agreement(np.bincount(clusters)),
        clusters=len(of_clusters),
        silhouette=silhouette(cosines, clusters),
    )
    if not is_strict_majority(share):
        return found
    members = (clusters == winner).nonzero()[0]
    within = cosines[np.ix_(members, members)]
    weights = prompt.weights[members]
    label, *_ = best_answers(within @ weights, [prompt.answers[m] for m in members], weights)
    return replace(found, label=label, confidence=share * _mean_similarity(within))


def _mean_similarity(cosines: Floats) -> float:
    """The mean over pairs of different clients, at least 0; 1 for a single one."""
    pairs = len(cosines) * (len(cosines) - 1)
    if not pairs:
        return 1.0
    return float(np.clip((cosines.sum() - len(cosines)) / pairs, 0, 1))
