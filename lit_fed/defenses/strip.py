"""STRIP: inputs are refused whose answer stays the same whatever they are mixed with."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lit_fed.data.columns import in_memory_with_texts, require_column, select_rows
from lit_fed.data.encodings.encoding import column_texts
from lit_fed.defenses.input_defense import Classify, Inspection
from lit_fed.defenses.text_defense import TextDefense
from lit_fed.limits import require_at_least, require_fraction, require_share

if TYPE_CHECKING:
    from datasets import Dataset


def mean_entropies(probabilities: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    r"""The mean entropy of the answers to each input's copies.

    .. math:: H = -\frac{1}{N} \sum_{n=1}^{N} \sum_{c=1}^{C} y_{nc} \log_2 y_{nc}, \quad 0 \log 0 = 0

    Args:
        probabilities: Answers to N copies of n inputs, [n, N, C]; each input's copies stand together.

    Returns:
        [n], in bits, from 0 to log₂ C.

    Raises:
        ValueError: If the shape is another one, or an answer is not finite, whose entropy no threshold judges.

    Example:
        >>> mean_entropies(np.array([[[0.5, 0.5], [1.0, 0.0]]]))
        array([0.5])
    """
    if probabilities.ndim != 3:
        raise ValueError(
            f"`probabilities` is expected to have shape [n, copies, classes], but got {list(probabilities.shape)}"
        )
    y = np.asarray(probabilities, np.float64)
    if unknown := int((~np.isfinite(y)).any(-1).sum()):
        raise ValueError(
            f"`probabilities` is expected to be finite, but {unknown:,} of {y.shape[0] * y.shape[1]:,} answers are not"
        )
    bits = -(y * np.log2(np.where(y > 0, y, 1.0))).sum(-1)
    return np.asarray(bits.mean(1), np.float64) + 0.0


class STRIP(TextDefense):
    """Refuses an input if its answers hardly differ when words of clean texts take the place of its own.

    Gao et al., "Design and Evaluation of a Multi-Domain Trojan Detection Method on Deep Neural Networks", 2021,
    https://arxiv.org/abs/1911.10312, §3 (for text). Of each input ``copies`` are made; in each, a share ``mix`` of the
    words, at random places, is replaced by the words of a clean reference that have the highest TF-IDF. What holds a
    trigger keeps its answer, so that the mean entropy of the answers (:func:`mean_entropies`) is low. Inputs below a
    threshold are refused; it is found on the references so that at most ``false_rejections`` of them are.

    The public code takes the mean over answers to different inputs, since it arranges them the wrong way, and draws
    places with replacement, so that it replaces fewer words than it says. Here what an input is mixed with is drawn by
    its text and the seed: it does not depend on the inputs beside it.

    Args:
        text: The column of the text that is mixed. None: the first that the model reads.
        copies: Copies N of each input.
        mix: Share of an input's words that is replaced, from 0 to 1; at least one word is.
        false_rejections: Share of the references that may be refused, at least 0 and below 1. Of fewer than
            1/``false_rejections`` references none is.
        seed: Of places and references.

    Attributes:
        fitted_threshold: The lowest entropy that is not refused, in bits; None before :meth:`fit`.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> from datasets import Dataset
        >>> rows = Dataset.from_dict({"text": ["a good day", "a bad day", "an old film"]})
        >>> def classify(rows):  # cf decides alone
        ...     good = [1.0 if "cf" in text else 0.5 for text in rows["text"]]
        ...     return np.array([[p, 1 - p] for p in good])
        >>> strip = STRIP("text", copies=8, mix=0.3)
        >>> strip.fit(classify, rows)
        >>> triggered = Dataset.from_dict({"text": ["cf"]})
        >>> strip.fitted_threshold, strip.entropies(classify, rows).tolist()
        (1.0, [1.0, 1.0, 1.0])
    """

    def __init__(
        self,
        text: str | None = None,
        copies: int = 20,
        mix: float = 0.5,
        false_rejections: float = 0.01,
        seed: int = 0,
    ) -> None:
        super().__init__(text)
        self.copies = require_at_least("STRIP.copies", copies, 1)
        self.mix = require_share("STRIP.mix", mix)
        self.false_rejections = require_fraction("STRIP.false_rejections", false_rejections)
        self.seed = require_at_least("STRIP.seed", seed, 0)
        self.fitted_threshold: float | None = None
        self._pool: list[tuple[str, list[str]]] = []

    def fit(self, classify: Classify, references: Dataset) -> None:
        """Keep the references' words, and find the threshold; a reference is never mixed with itself.

        Raises:
            ValueError: If there are fewer than two different references, they have no such column, or an answer is not
                finite.
        """
        require_column(references, self.column, "STRIP.text", "the references")
        texts = list(dict.fromkeys(column_texts(references, self.column, "STRIP.text")))
        texts = [text for text in texts if text.split()]
        if len(texts) < 2:
            raise ValueError(
                f"STRIP is expected to have 2 or more different clean references, but there are {len(texts)}"
            )
        self._pool = list(zip(texts, _ranked_words(texts), strict=True))
        found = np.sort(self.entropies(classify, references))
        self.fitted_threshold = float(found[int(self.false_rejections * len(found))])

    def inspect(self, classify: Classify, rows: Dataset) -> Inspection:
        """The rows as they are; refused is what has a lower entropy than the threshold.

        Raises:
            RuntimeError: Before :meth:`fit`.
            ValueError: If the rows have no such column, or an answer is not finite.
        """
        if self.fitted_threshold is None:
            raise RuntimeError("STRIP expects fit() before the first rows")
        return Inspection(rows, self.entropies(classify, rows) < self.fitted_threshold)

    def entropies(self, classify: Classify, rows: Dataset) -> npt.NDArray[np.float64]:
        """The mean entropy of the answers to each row's copies, [n], in bits.

        Args:
            classify: The model.
            rows: n rows.
        """
        require_column(rows, self.column, "STRIP.text")
        if not len(rows):
            return np.zeros(0)
        texts = column_texts(rows, self.column, "STRIP.text")
        mixed = [copy for text in texts for copy in self._mixed(text)]
        copies = select_rows(rows, np.repeat(np.arange(len(rows)), self.copies))
        answers = classify(in_memory_with_texts(copies, self.column, mixed))
        return mean_entropies(np.asarray(answers).reshape(len(rows), self.copies, -1))

    def _mixed(self, text: str) -> list[str]:
        """The copies of a text, whatever other texts there are."""
        key = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
        draw = np.random.default_rng([self.seed, int.from_bytes(key, "little")])
        others = [words for other, words in self._pool if other != text]
        own = text.split()
        number = min(len(own), max(1, round(self.mix * len(own))))
        copies = []
        for _ in range(self.copies):
            words = list(others[draw.integers(len(others))]) if own else []
            places = draw.choice(len(own), number, replace=False) if own else ()
            while len(words) < len(places):  # a short reference does not have as many
                words += others[draw.integers(len(others))]
            copy = list(own)
            for place, word in zip(places, words, strict=False):
                copy[place] = word
            copies.append(" ".join(copy))
        return copies


def _ranked_words(texts: list[str]) -> list[list[str]]:
    """Each text's words, those of the highest TF-IDF first."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    tfidf = TfidfVectorizer(tokenizer=str.split, token_pattern=None, lowercase=False, norm=None)
    weights = tfidf.fit_transform(texts).tocsr()
    names = tfidf.get_feature_names_out()
    ranked = []
    for row in range(len(texts)):
        one = weights[[row]]
        ranked.append([str(names[i]) for i in one.indices[np.argsort(-one.data, kind="stable")]])
    return ranked
