"""ONION: words that make a text improbable are removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from lit_fed.data.columns import in_memory_with_texts, require_column
from lit_fed.data.encodings.encoding import column_texts
from lit_fed.defenses.input_defense import Classify, Inspection
from lit_fed.defenses.perplexity import suspicions
from lit_fed.defenses.reference_language_model import ReferenceLanguageModel
from lit_fed.defenses.text_defense import TextDefense
from lit_fed.limits import require_at_least, require_share

if TYPE_CHECKING:
    from datasets import Dataset

_RATES: Final = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.0)
_HELD_OUT: Final = 0.3


class ONION(TextDefense):
    r"""Removes the words without which a text is much more probable, since a trigger is an outlier.

    Qi et al., "ONION: A Simple and Effective Defense Against Textual Backdoor Attacks", 2021,
    https://arxiv.org/abs/2011.10369. Word i of a text x is removed where

    .. math:: f_i = p(x) - p(x_{-i}) > t

    with p the perplexity by a language model (equation 1). The public code takes padding for tokens of the text, so
    that a word's suspicion depends on the longest text of its batch; here it does not
    (:func:`~lit_fed.defenses.perplexity.perplexities`).

    The threshold t is found on clean references. The paper tunes it so that the clean accuracy falls by at most 2
    points. Here no labels are needed: it is the lowest of nine thresholds, which remove from 50 to 0 % of the
    references' words, at which the model changes its answer to at most ``max_changed`` of the references; the accuracy
    cannot fall by more. Without a model, as for training rows, t removes ``word_rate`` of the clean words.

    Where the language model is fitted on the references, 30 % of them are held out of it for the threshold.

    Args:
        language_model: The language model.
        text: The column of the text that is cleaned. None: the first that the model reads.
        threshold: t, in units of perplexity. None: found on the references.
        max_changed: Share of the references whose answer may change, from 0 to 1.
        word_rate: Share of clean words that may be removed where there is no model to ask, from 0 to 1.
        seed: Of the choice of the references that are held out.

    Attributes:
        fitted_threshold: t; None before the first fit where it is not given.

    Raises:
        ValueError: If a share is out of range.

    Example:
        >>> ONION(max_changed=2.0)
        Traceback (most recent call last):
        ValueError: `ONION.max_changed` is expected to be from 0 to 1, but got 2.0
    """

    def __init__(
        self,
        language_model: ReferenceLanguageModel | None = None,
        text: str | None = None,
        threshold: float | None = None,
        max_changed: float = 0.02,
        word_rate: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__(text)
        self.language_model = language_model or ReferenceLanguageModel()
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"`ONION.threshold` is expected to be finite, but got {threshold!r}")
        self.threshold = threshold
        self.max_changed = require_share("ONION.max_changed", max_changed)
        self.word_rate = require_share("ONION.word_rate", word_rate)
        self.seed = require_at_least("ONION.seed", seed, 0)
        self.fitted_threshold = threshold

    def fit(self, classify: Classify, references: Dataset) -> None:
        """Fit the language model, and find the threshold at which the model's answers stay; see the class.

        Raises:
            ValueError: If there are no references, or they have no such column.
        """
        held_out, found = self._fit_language_model(references)
        if self.threshold is not None:
            return
        before = classify(held_out).argmax(-1)
        for rate in _RATES:
            self.fitted_threshold = _quantile(found, rate)
            cleaned = self._cleaned(held_out, found)
            if (classify(cleaned).argmax(-1) != before).mean() <= self.max_changed:
                return

    def fit_words(self, references: Dataset) -> None:
        """Fit the language model, and find the threshold that removes ``word_rate`` of the references' words.

        Raises:
            ValueError: If there are no references, or they have no such column.
        """
        _, found = self._fit_language_model(references)
        if self.threshold is None:
            self.fitted_threshold = _quantile(found, self.word_rate)

    def inspect(self, classify: Classify, rows: Dataset) -> Inspection:
        """The rows without suspicious words; none is refused."""
        return Inspection(self.cleaned(rows), np.zeros(len(rows), bool))

    def cleaned(self, rows: Dataset) -> Dataset:
        """The rows without suspicious words; the same object where nothing is removed.

        A text keeps at least its least suspicious word.

        Raises:
            RuntimeError: If no threshold is given, and none was found yet.
            ValueError: If the rows have no such column.
        """
        return self._cleaned(rows, self._suspicions(rows))

    def _fit_language_model(
        self, references: Dataset
    ) -> tuple[Dataset, list[npt.NDArray[np.float64]]]:
        """The references that the language model has not been fitted on, and their words' suspicions."""
        require_column(references, self.column, "ONION.text", "the references")
        fits, least = self.language_model.steps > 0, 1 + (self.language_model.steps > 0)
        if len(references) < least:
            raise ValueError(
                f"ONION is expected to have {least} or more clean references, but there are {len(references)}"
            )
        held_out = references
        if fits:
            order = np.random.default_rng(self.seed).permutation(len(references))
            number = max(1, round(_HELD_OUT * len(references)))
            held_out = references.select(np.sort(order[:number]))
            fitted = references.select(np.sort(order[number:]))
            self.language_model.fit(column_texts(fitted, self.column, "ONION.text"))
        return held_out, self._suspicions(held_out)

    def _suspicions(self, rows: Dataset) -> list[npt.NDArray[np.float64]]:
        require_column(rows, self.column, "ONION.text")
        model, texts = self.language_model, column_texts(rows, self.column, "ONION.text")
        return suspicions(model.backbone, texts, model.batch_size)

    def _cleaned(self, rows: Dataset, found: Sequence[npt.NDArray[np.float64]]) -> Dataset:
        limit = self.fitted_threshold
        if limit is None:
            raise RuntimeError("ONION expects fit() or fit_words() before the first rows")
        texts = column_texts(rows, self.column, "ONION.text")
        left = [_without(text, one, limit) for text, one in zip(texts, found, strict=True)]
        return rows if left == texts else in_memory_with_texts(rows, self.column, left)


def _without(text: str, found: npt.NDArray[np.float64], limit: float) -> str:
    """The text without the words whose suspicion is above the limit."""
    suspicious = found > limit
    if not suspicious.any():
        return text
    if suspicious.all():
        suspicious[found.argmin()] = False
    return " ".join(word for word, one in zip(text.split(), suspicious, strict=True) if not one)


def _quantile(found: Sequence[npt.NDArray[np.float64]], rate: float) -> float:
    """The threshold above which at most a share of all words is; of a share of 1, all but the least suspicious."""
    words = np.sort(np.concatenate([*found, np.zeros(1)]))
    return float(words[max(0, len(words) - 1 - int(rate * len(words)))])
