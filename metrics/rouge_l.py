"""ROUGE-L by torchmetrics, beside the other metrics of texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torchmetrics.functional.text.rouge import rouge_score

from lit_fed.metrics.arguments import one_of
from lit_fed.metrics.running_ratio import RunningRatio
from lit_fed.metrics.text_arguments import require_pairs
from lit_fed.metrics.words import words


class RougeL(RunningRatio):
    """Mean ROUGE-L of texts against their targets, from 0 to 100, by torchmetrics; higher is better.

    Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), https://aclanthology.org/W04-1013, without
    stemming. For English it is :func:`torchmetrics.functional.text.rouge_score`, which drops whatever is not of
    ``a-z0-9``; here Chinese characters and other letters are words as well. Nothing is downloaded.

    An empty text, or an empty target, scores 0. NaN (nothing to tell): no text yet.

    Args:
        value: ``fmeasure``, ``precision`` or ``recall``.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Raises:
        ValueError: If ``value`` is something else.

    Example:
        >>> metric = RougeL()
        >>> metric.update(preds=["My name is John"], target=["Is your name John"])
        >>> metric.compute()
        tensor(50.)
    """

    higher_is_better = True
    plot_lower_bound = 0.0
    plot_upper_bound = 100.0

    def __init__(
        self, value: Literal["fmeasure", "precision", "recall"] = "fmeasure", **kwargs: Any
    ) -> None:
        one_of("value", value, ("fmeasure", "precision", "recall"))
        super().__init__([value], **kwargs)
        self.value = value

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
        scores = [
            rouge_score(
                [text], [known], rouge_keys="rougeL", normalizer=str.lower, tokenizer=_tokens
            )[f"rougeL_{self.value}"]
            for text, known in zip(texts, targets, strict=True)
        ]
        self.add(torch.stack(scores).double().sum() if scores else 0.0, len(texts))


def _tokens(text: str) -> list[str]:
    """As in torchmetrics for English: an apostrophe, a point or a comma separates."""
    return [part for word in words(text) for part in re.split(r"['.,]", word)]
