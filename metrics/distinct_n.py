"""Distinct-n: how many of all runs of n words are different ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lit_fed.metrics.arguments import positive_integer
from lit_fed.metrics.collected_texts import CollectedTexts
from lit_fed.metrics.state_marks import keep_apart
from lit_fed.metrics.text_arguments import require_texts
from lit_fed.metrics.words import ngrams, words


def distinct_ngrams(preds: Sequence[str], n: int) -> tuple[int, int]:
    """Counts the different runs of n words in all texts together, and all of them.

    Args:
        preds: The texts.
        n: Words in a run, at least 1.

    Returns:
        How many different ones there are, and how many in all.

    Example:
        >>> distinct_ngrams(["the cat saw the cat", "the dog"], 2)
        (4, 5)
    """
    seen: set[tuple[str, ...]] = set()
    total = 0
    for text in preds:
        runs = ngrams(words(text), n)
        seen.update(runs)
        total += len(runs)
    return len(seen), total


class DistinctN(CollectedTexts):
    """Share of different n-grams among all n-grams of all texts, from 0 to 100; higher is more diverse.

    Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models" (2016),
    https://arxiv.org/abs/1510.03055. Words are those of :func:`~lit_fed.metrics.words`. It falls as there is more
    text, so compare equally many texts of similar length alone. All texts are kept until ``reset``.

    NaN (nothing to tell): no text has n words.

    Args:
        n: Words in an n-gram.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``n`` is no integer.
        ValueError: If ``n`` is below 1.

    Example:
        >>> metric = DistinctN(2)
        >>> metric.update(["the cat saw the cat", "the dog"])
        >>> metric.compute()
        tensor(80.)
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, n: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n = positive_integer("n", n)
        keep_apart(self)  # from metrics that keep whose the texts are

    def update(self, preds: Sequence[str]) -> None:
        """Adds texts.

        Args:
            preds: The texts.

        Raises:
            TypeError: If it is no sequence of texts.
        """
        self.collect(require_texts("preds", preds))

    def compute(self) -> Tensor:
        """The share, a scalar."""
        distinct, total = distinct_ngrams([text for _, text in self.collected()], self.n)
        return torch.tensor(100 * distinct / total if total else torch.nan, device=self.device)
