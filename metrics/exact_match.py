"""The share of texts that say exactly what their targets say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lit_fed.metrics.running_ratio import RunningRatio
from lit_fed.metrics.text_arguments import require_pairs
from lit_fed.metrics.words import words


class ExactMatch(RunningRatio):
    """Share of texts with the same words as their targets in the same order, from 0 to 100; higher is better.

    As in Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text" (2016),
    https://arxiv.org/abs/1606.05250, case and punctuation do not count; articles do here, since they are English.

    A text without words equals a target without any. NaN (nothing to tell): no text yet.

    Args:
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> metric = ExactMatch()
        >>> metric.update(preds=["New York.", "the lungs"], target=["new york", "lungs"])
        >>> metric.compute()
        tensor(50.)
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__([], **kwargs)

    def update(self, preds: Sequence[str], target: Sequence[str]) -> None:
        """Adds texts and their targets.

        Args:
            preds: The texts.
            target: A text for each.

        Raises:
            TypeError: If one is no sequence of texts.
            ValueError: If they differ in number.
        """
        texts, targets = require_pairs(preds, target, "target")
        same = sum(words(text) == words(known) for text, known in zip(texts, targets, strict=True))
        self.add(same, len(texts))
