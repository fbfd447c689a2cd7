"""What guessing gets right of test rows."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from lit_fed.data import ClassificationEncoding, Encoding

if TYPE_CHECKING:
    from datasets import Dataset


def label_counts(encoding: Encoding, rows: Dataset) -> Counter[int] | None:
    """How often each class occurs; None where rows have no single label, as for language models."""
    if not isinstance(encoding, ClassificationEncoding):
        return None
    return Counter(encoding.label_ids(rows).tolist())


def majority_share(counts: Counter[int] | None) -> float:
    """The accuracy of always saying the most frequent class, just below 1 at most; 0 without classes."""
    return min(max(counts.values()) / counts.total(), 1 - 1e-6) if counts else 0.0
