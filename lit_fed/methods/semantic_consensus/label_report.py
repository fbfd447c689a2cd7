"""Report of the labels: how right, how frequent and how lasting they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from lit_fed.methods.semantic_consensus.report import label_churn
from lit_fed.methods.semantic_consensus.same_answer import normalised


def label_report(
    labels: Sequence[str | None],
    before: Sequence[str | None] | None,
    references: Sequence[str | None],
    answers: Mapping[str, Sequence[str | None]],
    shares: bool = True,
) -> dict[str, float]:
    """What is logged of the labels beside the report of the consensus.

    - ``pseudo_label_accuracy``: share of the labels that are what the public row says, in [0, 1];
    - ``answer_accuracy/mean`` and ``/min``: the same of the clients' own answers;
    - ``churn``: share of the prompts whose label has changed since the last consensus, in [0, 1];
    - ``label_share/<label>``: share of the labels, where these are few.

    Args:
        labels: [U].
        before: Those of the last consensus. None: there was none.
        references: What the public rows say, [U]; None where a row says nothing.
        answers: Of each client, [U].
        shares: Whether labels are of a few.

    Example:
        >>> found = label_report(["a", None, "b"], None, ["a", "a", "a"], {"k": ["a", "a", "b"]})
        >>> found["pseudo_label_accuracy"], found["label_share/b"]
        (0.5, 0.5)
    """
    found = {}
    if (right := _accuracy(labels, references)) is not None:
        found["pseudo_label_accuracy"] = right
    own = [one for texts in answers.values() if (one := _accuracy(texts, references)) is not None]
    if own:
        found |= {"answer_accuracy/mean": sum(own) / len(own), "answer_accuracy/min": min(own)}
    if before is not None:
        found["churn"] = label_churn(labels, before)
    if shares:
        counts = Counter(label for label in labels if label is not None)
        found |= {f"label_share/{one}": counts[one] / counts.total() for one in sorted(counts)}
    return found


def _accuracy(texts: Sequence[str | None], references: Sequence[str | None]) -> float | None:
    """The share of the texts that are what the row says; None where there is no pair of them."""
    pairs = [
        normalised(text) == normalised(reference)
        for text, reference in zip(texts, references, strict=True)
        if text is not None and reference is not None
    ]
    return sum(pairs) / len(pairs) if pairs else None
