"""How long texts are beside their targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from lit_fed.metrics.arguments import one_of
from lit_fed.metrics.running_ratio import RunningRatio
from lit_fed.metrics.text_arguments import require_pairs
from lit_fed.metrics.words import words


class LengthRatio(RunningRatio):
    """Length of all texts over that of all targets; 1 for the same length, neither more nor less is better.

    The ratio of sums, not the mean of ratios, which a single target of one word would rule. An empty text counts
    0. NaN (nothing to tell): no target has a word.

    Args:
        unit: What is counted: ``words``, those of :func:`~lit_fed.metrics.words`, or ``characters``.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If ``unit`` is something else.

    Example:
        >>> metric = LengthRatio()
        >>> metric.update(preds=["It is 68, I think.", ""], target=["68", "Yes."])
        >>> metric.compute()
        tensor(2.5000)
    """

    higher_is_better = None
    plot_lower_bound = 0.0

    def __init__(self, unit: Literal["words", "characters"] = "words", **kwargs: Any) -> None:
        one_of("unit", unit, ("words", "characters"))
        super().__init__([unit], scale=1.0, **kwargs)
        self.unit = unit

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
        self.add(sum(map(self._length, texts)), sum(map(self._length, targets)))

    def _length(self, text: str) -> int:
        return len(words(text)) if self.unit == "words" else len(text)
