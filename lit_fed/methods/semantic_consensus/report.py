"""The round's report of a consensus: how far clients agree, and how varied answers and labels are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import torch

from lit_fed.methods.semantic_consensus.ballots import Ballots
from lit_fed.methods.semantic_consensus.consensus import Consensus, PromptConsensus
from lit_fed.methods.semantic_consensus.same_answer import normalised
from lit_fed.metrics.words import ngrams, words

# Distinct-n falls as there is more text: a fixed number of answers keeps rounds comparable, and costs little.
_SAMPLED: Final = 1000
_LONGEST_RUN: Final = 3


def report(
    ballots: Ballots,
    prompts: Sequence[PromptConsensus],
    more: Mapping[str, float] | None = None,
) -> Consensus:
    """The consensus on all prompts, with its metrics.

    Of all prompts with the votes that a metric needs it is the mean:

    - ``agreement``: share of pairs of clients that say the same, in [0, 1];
    - ``winner_share``: share of the vote weight behind the strongest answer, in [0, 1];
    - ``abstain_rate``: share of all prompts without a label, in [0, 1];
    - ``clusters``: how many different answers a prompt has;
    - ``silhouette``: of the answers in their clusters, in [-1, 1], where it is defined;
    - ``confidence``: of the labels, in (0, 1];
    - ``answered``: share of clients and prompts with a vote, in [0, 1];
    - ``effective_labels``: the effective number of different labels, at least 1;
    - ``distinct_1`` to ``distinct_3``: distinct-n of at most 1,000 answers, taken evenly, from 0 to 100.

    Args:
        ballots: The votes.
        prompts: What was made of each prompt's, [U].
        more: Metrics of the selector's own.

    Returns:
        The consensus. A metric is NaN where there is nothing to tell.
    """
    labels = tuple(prompt.label for prompt in prompts)
    confidence = torch.tensor([prompt.confidence for prompt in prompts], dtype=torch.float64)
    votes = [prompt for prompt in prompts if prompt.clusters]
    metrics = {
        "agreement": _mean(prompt.agreement for prompt in prompts),
        "winner_share": _mean(prompt.share for prompt in prompts),
        **of_labels(labels, confidence.tolist()),
        "clusters": _mean(float(prompt.clusters) for prompt in votes),
        "silhouette": _mean(prompt.silhouette for prompt in prompts),
        "answered": _mean((ballots.votes > 0).double().flatten().tolist()),
        **_distinct(ballots),
        **(more or {}),
    }
    return Consensus(labels, confidence, metrics)


def of_labels(labels: Sequence[str | None], confidence: Sequence[float]) -> dict[str, float]:
    """The metrics of :func:`report` that are of the labels alone, whatever votes they were made of.

    Args:
        labels: [U]; None where there is none.
        confidence: [U].

    Example:
        >>> of_labels(["yes", None], [0.75, 0.0])
        {'abstain_rate': 0.5, 'confidence': 0.75, 'effective_labels': 1.0}
    """
    given = zip(labels, confidence, strict=True)
    return {
        "abstain_rate": _mean(float(label is None) for label in labels),
        "confidence": _mean(sure for label, sure in given if label is not None),
        "effective_labels": effective_labels(labels),
    }


def effective_labels(labels: Sequence[str | None]) -> float:
    """The effective number of different labels: the exponential of their entropy in nats.

    Hill, "Diversity and Evenness: A Unifying Notation and Its Consequences" (1973), order 1. It is the number of
    labels where all are as frequent, and 1 where every label is the same, which a collapse shows.

    Args:
        labels: Texts; None is left out. Two that differ in case, blanks or punctuation around them are the same.

    Returns:
        At least 1; NaN of no label.

    Example:
        >>> effective_labels(["yes", "no", "Yes.", "no", None])
        2.0
    """
    counts = Counter(normalised(label) for label in labels if label is not None)
    if not counts:
        return float("nan")
    shares = np.array(list(counts.values())) / counts.total()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def label_churn(labels: Sequence[str | None], before: Sequence[str | None]) -> float:
    """The share of prompts whose label is another one than in the round before, in [0, 1].

    To abstain where there was a label, or the other way round, is a change as well.

    Args:
        labels: This round's labels, [U].
        before: Those of the round before, [U].

    Returns:
        The share; NaN without prompts.

    Raises:
        ValueError: If they are about another number of prompts.

    Example:
        >>> label_churn(["yes", "no", None, "no"], ["Yes", "yes", None, None])
        0.5
    """
    if len(labels) != len(before):
        raise ValueError(
            f"`before` is expected to have a label for each of the {len(labels)} prompts, but got {len(before)}"
        )
    return _mean(
        float(
            (None if new is None else normalised(new)) != (None if old is None else normalised(old))
        )
        for new, old in zip(labels, before, strict=True)
    )


def _distinct(ballots: Ballots) -> dict[str, float]:
    """Distinct-n of a fixed number of answers, taken evenly from all votes."""
    clients, prompts = ballots.votes.numpy().nonzero()
    taken = np.linspace(0, len(clients) - 1, min(len(clients), _SAMPLED)).round().astype(int)
    texts = [str(ballots.answers[clients[i]][prompts[i]]) for i in taken]
    # once for all runs: to find the words takes longest
    said = {text: words(text) for text in set(texts)}
    found = {}
    for n in range(1, _LONGEST_RUN + 1):
        different = len({run for own in said.values() for run in ngrams(own, n)})
        every = sum(max(len(said[text]) - n + 1, 0) for text in texts)
        found[f"distinct_{n}"] = 100 * different / every if every else float("nan")
    return found


def _mean(values: Iterable[float]) -> float:
    """The mean of those that are no NaN; NaN of none."""
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")
