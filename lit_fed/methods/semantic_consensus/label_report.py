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
    names: Sequence[str] = (),
) -> dict[str, float]:
    """What is logged of the labels beside the report of the consensus.

    - ``pseudo_label_accuracy``: share of the labels that are what the public row says, in [0, 1];
    - ``answer_accuracy/mean`` and ``/min``: the same of the clients' own answers;
    - ``churn``: share of the prompts whose label has changed since the last consensus, in [0, 1];
    - ``label_share/<label>``: share of the labels, of each where these are few; 0 where it is none's.

    Args:
        labels: [U].
        before: Those of the last consensus. None: there was none.
        references: What the public rows say, [U]; None where a row says nothing.
        answers: Of each client, [U].
        names: All labels, where these are few.

    Example:
        >>> said = {"k": ["a", "a", "b"]}
        >>> found = label_report(["a", None, "b"], None, ["a", "a", "a"], said, names=["a", "b", "c"])
        >>> found["pseudo_label_accuracy"], found["label_share/b"], found["label_share/c"]
        (0.5, 0.5, 0.0)
    """
    found = {}
    if (right := _accuracy(labels, references)) is not None:
        found["pseudo_label_accuracy"] = right
    own = [one for texts in answers.values() if (one := _accuracy(texts, references)) is not None]
    if own:
        found |= {"answer_accuracy/mean": sum(own) / len(own), "answer_accuracy/min": min(own)}
    if before is not None:
        found["churn"] = label_churn(labels, before)
    counts = Counter(label for label in labels if label is not None)
    if counts:
        found |= {f"label_share/{name}": counts[name] / counts.total() for name in names}
    return found


def _accuracy(texts: Sequence[str | None], references: Sequence[str | None]) -> float | None:
    """The share of the texts that are what the row says; None where there is no pair of them."""
    pairs = [
        normalised(text) == normalised(reference)
        for text, reference in zip(texts, references, strict=True)
        if text is not None and reference is not None
    ]
    return sum(pairs) / len(pairs) if pairs else None
