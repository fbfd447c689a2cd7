"""Dawid-Skene: votes weighed by how each client confuses labels, which is estimated from the votes themselves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from lit_fed.limits import require_at_least, require_positive
from lit_fed.methods.semantic_consensus.ballots import Ballots, Floats, Integers, PromptBallots
from lit_fed.methods.semantic_consensus.consensus import Consensus, PromptConsensus
from lit_fed.methods.semantic_consensus.report import report
from lit_fed.methods.semantic_consensus.same_answer import normalised
from lit_fed.methods.semantic_consensus.selectors.exact_votes import exact_votes
from lit_fed.methods.semantic_consensus.selectors.selector import Selector
from lit_fed.methods.semantic_consensus.selectors.strict_majority import is_strict_majority


class DawidSkene(Selector):
    r"""The most probable label where each client confuses labels in its own way, by expectation maximisation.

    Dawid and Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm" (1979),
    https://doi.org/10.2307/2346806, for exact answers; no true label is needed. From the weighted vote as the first
    estimate T of each prompt's label it repeats

    .. math::
        \pi^{(k)}_{cl} \propto s + \sum_u T_{uc} [a_{ku} = l], \quad p_c \propto s + \sum_u T_{uc}, \quad
        T_{uc} \propto p_c \prod_k \pi^{(k)}_{c a_{ku}}

    until no probability changes by more than ``tolerance`` or after ``max_iterations``. Afterwards a client's weight
    is what it has been seen to be worth: those of the ballots decide the start alone, and a weight of 0 is no vote.
    Its confidence is the posterior probability. Without a label of more than one half it abstains, as it does
    without votes.

    The label set is what the clients answer: the ``max_labels`` answers that most clients give, then those of
    the most vote weight, then by text; a vote for another is none. Its metrics are those of an exact vote, and
    ``iterations``, ``converged`` (1 or 0), ``labels`` (how many there are) and ``unknown_answers`` (share of the
    votes left out).

    Args:
        max_iterations: Of EM, at least 1.
        tolerance: A change of a probability that is none, above 0.
        smoothing: s, pseudo-counts that keep a probability from 0, above 0.
        max_labels: At least 1; time and memory grow with its square.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> import torch
        >>> right = ("yes", "no", "yes", "no", "yes", "no")
        >>> wrong = ("no", "yes", "no", "yes", "no", "yes")
        >>> ballots = Ballots(("a", "b", "c"), (right, right, wrong), torch.ones(3, 6))
        >>> found = DawidSkene()(ballots, seed=0)
        >>> found.labels, found.metrics["converged"]
        (('yes', 'no', 'yes', 'no', 'yes', 'no'), 1.0)
    """

    def __init__(
        self,
        max_iterations: int = 100,
        tolerance: float = 1e-4,
        smoothing: float = 0.01,
        max_labels: int = 64,
    ) -> None:
        self.max_iterations = require_at_least("model.selector.max_iterations", max_iterations, 1)
        self.tolerance = require_positive("model.selector.tolerance", tolerance)
        self.smoothing = require_positive("model.selector.smoothing", smoothing)
        self.max_labels = require_at_least("model.selector.max_labels", max_labels, 1)

    def __call__(self, ballots: Ballots, seed: int) -> Consensus:
        """The consensus; the seed plays no part."""
        prompts = list(ballots.prompts())
        labels = _most_common(prompts, len(ballots.clients), self.max_labels)
        said, weights = _table(prompts, list(labels), len(ballots.clients))
        known = int((said >= 0).sum())
        if not known:
            return report(ballots, [PromptConsensus()] * len(prompts))
        fitted = fit_dawid_skene(
            said, weights, len(labels), self.max_iterations, self.tolerance, self.smoothing
        )
        voted = (said >= 0).sum(axis=0)
        written = list(labels.values())
        chosen = [
            _choose(prompt, posterior if any_vote else None, written)
            for prompt, posterior, any_vote in zip(prompts, fitted.posterior, voted, strict=True)
        ]
        votes = sum(len(prompt.answers) for prompt in prompts)
        more = {
            "iterations": float(fitted.iterations),
            "converged": float(fitted.converged),
            "labels": float(len(labels)),
            "unknown_answers": 1 - known / votes,
        }
        return report(ballots, chosen, more)


@dataclass(frozen=True)
class FittedDawidSkene:
    """What expectation maximisation has found.

    Attributes:
        posterior: Probability of each label for each prompt, [U, C].
        confusion: Probability that a client says l where c is right, [K, C, C].
        prior: Probability of each label, [C].
        iterations: How often it was repeated.
        converged: Whether it ended because no probability changed.
    """

    posterior: Floats
    confusion: Floats
    prior: Floats
    iterations: int
    converged: bool


def fit_dawid_skene(
    said: Integers,
    weights: Floats,
    num_labels: int,
    max_iterations: int = 100,
    tolerance: float = 1e-4,
    smoothing: float = 0.01,
) -> FittedDawidSkene:
    """Estimates labels and confusions by expectation maximisation, see :class:`DawidSkene`.

    Args:
        said: The label that each client gives each prompt, [K, U], from 0; -1 without a vote. A prompt without any
            takes no part: its probabilities are those of the labels.
        weights: Weights of the votes for the first estimate, [K, U].
        num_labels: C.
        max_iterations: At least 1.
        tolerance: A change of a probability that is none.
        smoothing: Pseudo-counts.
    """
    voted = (said >= 0).sum(0) > 0
    said, weights = said[:, voted], weights[:, voted]
    clients = [((votes >= 0).nonzero()[0], votes[votes >= 0]) for votes in said]
    posterior = np.zeros((said.shape[1], num_labels))
    for (at, label), weight in zip(clients, weights, strict=True):
        posterior[at, label] += weight[at]
    posterior = _shares(posterior)
    confusion = np.zeros((len(clients), num_labels, num_labels))
    prior = np.zeros(num_labels)
    change, iterations = np.inf, 0
    while change > tolerance and iterations < max_iterations:
        iterations += 1
        prior = _shares(posterior.sum(0) + smoothing)
        log_posterior = np.log(prior) + np.zeros_like(posterior)
        for k, (at, label) in enumerate(clients):
            counts = np.full((num_labels, num_labels), smoothing)
            np.add.at(counts.T, label, posterior[at])
            confusion[k] = _shares(counts)
            log_posterior[at] += np.log(confusion[k].T[label])
        after = np.exp(log_posterior - logsumexp(log_posterior, axis=1, keepdims=True))
        change = np.abs(after - posterior).max(initial=0.0)
        posterior = after
    of_all = np.tile(prior, (len(voted), 1))
    of_all[voted] = posterior
    return FittedDawidSkene(of_all, confusion, prior, iterations, bool(change <= tolerance))


def _shares(counts: Floats) -> Floats:
    shares: Floats = counts / counts.sum(-1, keepdims=True)
    return shares


def _most_common(prompts: Sequence[PromptBallots], clients: int, most: int) -> dict[str, str]:
    """The label set: normalised texts, and how each is written most often."""
    said: list[dict[str, float]] = [{} for _ in range(clients)]
    for prompt in prompts:
        for client, answer, weight in zip(
            prompt.clients.tolist(), prompt.answers, prompt.weights.tolist(), strict=True
        ):
            label = normalised(answer)
            said[client][label] = said[client].get(label, 0.0) + weight
    givers = Counter(label for own in said for label in own)
    weights: dict[str, float] = defaultdict(float)
    for own in said:
        for label, weight in own.items():
            weights[label] += weight
    chosen = sorted(givers, key=lambda label: (-givers[label], -weights[label], label))[:most]
    written: dict[str, Counter[str]] = {label: Counter() for label in chosen}
    for prompt in prompts:
        for answer in prompt.answers:
            if (label := normalised(answer)) in written:
                written[label][answer] += 1
    return {
        label: min(written[label], key=lambda text: (-written[label][text], text))
        for label in chosen
    }


def _table(
    prompts: Sequence[PromptBallots], labels: Sequence[str], clients: int
) -> tuple[Integers, Floats]:
    """The label that each client gives each prompt, -1 without a vote for one of them, and the votes' weights."""
    places = {label: place for place, label in enumerate(labels)}
    said = np.full((clients, len(prompts)), -1)
    weights = np.zeros((clients, len(prompts)))
    for column, prompt in enumerate(prompts):
        said[prompt.clients, column] = [places.get(normalised(a), -1) for a in prompt.answers]
        weights[prompt.clients, column] = prompt.weights
    return said, weights


def _choose(
    prompt: PromptBallots, posterior: Floats | None, labels: Sequence[str]
) -> PromptConsensus:
    if not prompt.answers:
        return PromptConsensus()
    votes = exact_votes(prompt)
    best = 0 if posterior is None else int(posterior.argmax())
    probability = 0.0 if posterior is None else min(float(posterior[best]), 1.0)
    wins = is_strict_majority(probability)
    return PromptConsensus(
        label=labels[best] if wins else None,
        confidence=probability if wins else 0.0,
        share=min(float(votes.weights.max() / votes.weights.sum()), 1.0),
        agreement=votes.agreement,
        clusters=len(votes.answers),
    )
