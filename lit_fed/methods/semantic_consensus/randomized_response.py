"""Randomised response: a client's hard votes under local differential privacy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom

from lit_fed.limits import require_fraction, require_positive
from lit_fed.methods.semantic_consensus.ballots import Floats
from lit_fed.methods.semantic_consensus.same_answer import normalised


class RandomizedResponse:
    r"""Replaces each answer by another label with a known probability, before it leaves the client.

    An answer c among C labels is sent as itself with probability p and as each other label with q,

    .. math:: p = \frac{e^\epsilon}{e^\epsilon + C - 1}, \quad q = \frac{1}{e^\epsilon + C - 1},

    so that p / q = e^ε: each answer is under ε-local differential privacy (Warner (1965); for C labels Kairouz et al.
    (2016), https://arxiv.org/abs/1602.07387). Where a client has no answer, or none of the labels, it sends each label
    with probability 1/C, so that an abstention tells nothing either.

    Federated co-training (Abourayya et al. (2025), https://arxiv.org/abs/2310.05696) takes the XOR mechanism of Ji et
    al., "Differentially Private Binary- and Matrix-Valued Data Query" (2021): noise bits are added, exclusively or, to
    the one-hot rows of the answers. With independent noise bits and two labels, sent as one bit, it is this mechanism:
    a bit turns with probability 1 / (1 + e^ε). With more labels the noise leaves rows of no label or of several, which
    are no vote, and a changed answer changes two bits; one label of C is what is sent here instead. Their ε is for
    records that change no more than an assumed number of labels; here any record may change every answer.

    The noise is worth nothing to who knows the generator's state. A client of a real federation seeds its own from
    the operating system (``numpy.random.default_rng()``) and tells nobody.

    Args:
        labels: The C different labels, at least 2.
        epsilon: ε of one answer, in nats, above 0.

    Raises:
        ValueError: If there are fewer than two labels, two are the same answer, or ε is not above 0, or so near to it
            that p and q are the same number in floating point.

    Example:
        >>> response = RandomizedResponse(["negative", "positive"], epsilon=math.log(3))
        >>> response.keeps, response.composed(answers=100)
        (0.75, 109.86...)
        >>> response(["positive"] * 8, np.random.default_rng(0))
        ['positive', 'positive', 'positive', 'positive', 'negative', 'negative', 'positive', 'positive']
    """

    def __init__(self, labels: Sequence[str], epsilon: float) -> None:
        self.labels = tuple(labels)
        self.epsilon = require_epsilon("epsilon", epsilon)
        self._places = {normalised(label): place for place, label in enumerate(self.labels)}
        if len(self.labels) < 2 or len(self._places) < len(self.labels):
            raise ValueError(
                f"`labels` of RandomizedResponse is expected to be two or more different labels, but got "
                f"{list(self.labels)!r:.200}"
            )

    def is_like(self, other: RandomizedResponse) -> bool:
        """Whether another one puts the same noise on the same labels, in whatever order they are.

        Args:
            other: The other one.

        Example:
            >>> one = RandomizedResponse(["no", "yes"], 1.0)
            >>> [one.is_like(RandomizedResponse(["Yes", "no"], epsilon)) for epsilon in (1.0, 2.0)]
            [True, False]
        """
        return self.epsilon == other.epsilon and self._places.keys() == other._places.keys()

    def __repr__(self) -> str:
        """Its settings.

        Example:
            >>> RandomizedResponse(["no", "yes"], 1.0)
            RandomizedResponse(['no', 'yes'], epsilon=1.0)
        """
        return f"RandomizedResponse({list(self.labels)!r:.200}, epsilon={self.epsilon})"

    @property
    def keeps(self) -> float:
        """p, the probability that an answer is sent as it is."""
        return 1 / (1 + (len(self.labels) - 1) * math.exp(-self.epsilon))

    @property
    def turns(self) -> float:
        """q, the probability of each other label."""
        return (1 - self.keeps) / (len(self.labels) - 1)

    def __call__(self, answers: Sequence[str | None], generator: np.random.Generator) -> list[str]:
        """What is sent instead of the answers.

        Args:
            answers: One a prompt; None, and what is none of the labels, is no answer.
            generator: The client's own, unknown to the server.
        """
        count = len(self.labels)
        true = np.array([self._places.get(normalised(a or ""), -1) for a in answers], dtype=int)
        kept = generator.random(len(true)) < self.keeps
        other = (true + generator.integers(1, count, len(true))) % count
        anything = generator.integers(0, count, len(true))
        sent = np.where(true < 0, anything, np.where(kept, true, other))
        return [self.labels[place] for place in sent]

    def unbiased(self, shares: Floats) -> Floats:
        """An unbiased estimate of the answers' shares before the noise, of what was counted of it.

        It is (share - q) / (p - q), which may be below 0 and above 1: with few clients or a small ε it is mostly noise.

        Args:
            shares: Of each label among what was sent, by weights that the answers do not decide, [..., C] or [...].
        """
        return (shares - self.turns) / (self.keeps - self.turns)

    def standard_error(self, share: float, weights: Floats) -> float:
        r"""The standard error of :meth:`unbiased` for one label, by the noise alone.

        A vote is sent as the label with probability p where that is its answer, and with q otherwise. With votes of
        weights w, of which a share s answers the label, the estimate has the variance

        .. math:: \frac{\sum_k w_k^2}{(\sum_k w_k)^2} \cdot \frac{s \, p (1 - p) + (1 - s) \, q (1 - q)}{(p - q)^2}.

        Args:
            share: s, before the noise, in [0, 1].
            weights: Of the votes, which the answers do not decide, [N].

        Example:
            >>> response = RandomizedResponse(["no", "yes"], epsilon=math.log(3))
            >>> response.standard_error(0.5, np.ones(12))
            0.25
        """
        p, q = self.keeps, self.turns
        of_a_vote = share * p * (1 - p) + (1 - share) * q * (1 - q)
        votes = float((weights**2).sum() / weights.sum() ** 2)
        return math.sqrt(votes * of_a_vote) / (p - q)

    def composed(self, answers: int, delta: float = 0.0) -> float:
        """ε of many answers together, whatever they depend on.

        Args:
            answers: How many a client sends in all: prompts times rounds in which it answers.
            delta: δ of (ε, δ)-differential privacy, in [0, 1). At 0 ε adds up. Otherwise it is the least ε for that δ:
                the optimal composition of Kairouz et al. (2015), https://arxiv.org/abs/1311.0776, which randomised
                response with two labels attains.

        Raises:
            ValueError: If δ is out of range.
        """
        require_fraction("delta", delta)
        total = answers * self.epsilon
        if delta == 0 or _delta(total, answers, self.epsilon) >= delta:
            return total
        if _delta(0.0, answers, self.epsilon) <= delta:
            return 0.0
        return float(brentq(lambda e: _delta(e, answers, self.epsilon) - delta, 0.0, total))


def require_epsilon(setting: str, epsilon: float) -> float:
    """An ε by which an answer tells something: above 0, and by so much that p / q = e^ε is above 1 in floating point.

    Args:
        setting: The setting, as in YAML.
        epsilon: What it gives.

    Raises:
        ValueError: If it is not.

    Example:
        >>> require_epsilon("epsilon", 1e-300)
        Traceback (most recent call last):
        ValueError: `epsilon` is expected to be large enough that an answer tells something, but got 1e-300
    """
    require_positive(setting, epsilon)
    if math.isclose(math.exp(-epsilon), 1):
        raise ValueError(
            f"`{setting}` is expected to be large enough that an answer tells something, but got {epsilon!r}"
        )
    return epsilon


def _delta(bound: float, answers: int, epsilon: float) -> float:
    """δ at an ε of ``bound``: the mean of max(0, 1 - e^(bound - loss)) over the privacy loss of two labels."""
    kept = np.arange(answers + 1)
    loss = epsilon * (2 * kept - answers)
    probability = binom.pmf(kept, answers, 1 / (1 + math.exp(-epsilon)))
    return float((probability * -np.expm1(np.minimum(bound - loss, 0))).sum())
