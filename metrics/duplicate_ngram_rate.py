"""How much a text repeats itself: the share of its runs of n words that it has had before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lit_fed.metrics.arguments import positive_integer
from lit_fed.metrics.running_ratio import RunningRatio
from lit_fed.metrics.text_arguments import require_texts
from lit_fed.metrics.words import ngrams, words


def duplicate_ngrams(text: str, n: int = 4) -> float:
    """The share of a text's runs of n words that occurred in it before, from 0 to 1.

    Args:
        text: The text.
        n: Words in a run, at least 1.

    Returns:
        1 − different ones / all; 0 where the text has fewer than n words.

    Example:
        >>> duplicate_ngrams("a b a b a b", n=2)
        0.6
    """
    runs = ngrams(words(text), n)
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


class DuplicateNgramRate(RunningRatio):
    """Mean over texts of the share of n-grams that the same text has had before, from 0 to 100; lower is better.

    The seq-rep-n of Welleck et al., "Neural Text Generation with Unlikelihood Training" (2020),
    https://arxiv.org/abs/1908.04319. Words are those of :func:`~lit_fed.metrics.words`. A text of fewer than n words,
    an empty one too, repeats nothing and counts as 0.

    NaN (nothing to tell): no text yet.

    Args:
        n: Words in an n-gram.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        TypeError: If ``n`` is no integer.
        ValueError: If ``n`` is below 1.

    Example:
        >>> metric = DuplicateNgramRate(2)
        >>> metric.update(["a b a b a b", "once"])
        >>> metric.compute()
        tensor(30.)
    """

    higher_is_better = False
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, n: int = 4, **kwargs: Any) -> None:
        self.n = positive_integer("n", n)
        super().__init__([self.n], **kwargs)

    def update(self, preds: Sequence[str]) -> None:
        """Adds texts.

        Args:
            preds: The texts.

        Raises:
            TypeError: If it is no sequence of texts.
        """
        texts = require_texts("preds", preds)
        self.add(sum(duplicate_ngrams(text, self.n) for text in texts), len(texts))
