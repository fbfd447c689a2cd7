"""Hashed n-gram encoder: counts of character n-grams, with nothing to download."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from lit_fed.limits import require_at_least
from lit_fed.methods.semantic_consensus.encoders.calibrated_encoder import CalibratedEncoder

_DEFAULTS: Final = (1024, 2, 4)
_THRESHOLD: Final = 0.67  # what calibration finds for them


class HashedNgramEncoder(CalibratedEncoder):
    """Counts of hashed character n-grams within words, by scikit-learn's ``HashingVectorizer``.

    It sees that answers are written alike, not that they mean the same. It needs no model, no fitting and no
    network, and the same text has the same vector in every run.

    Args:
        dimensions: D; more make fewer n-grams share one.
        shortest: Characters of the shortest n-grams.
        longest: Characters of the longest.

    Raises:
        ValueError: If one is below 1, or ``longest`` is below ``shortest``.

    Example:
        >>> vectors = HashedNgramEncoder().encode(["Paris", "paris.", "London"])
        >>> (vectors @ vectors[0]).round(decimals=1)
        tensor([1.0000, 0.7000, 0.0000])
    """

    def __init__(self, dimensions: int = 1024, shortest: int = 2, longest: int = 4) -> None:
        self.dimensions = require_at_least("model.selector.encoder.dimensions", dimensions, 1)
        self.shortest = require_at_least("model.selector.encoder.shortest", shortest, 1)
        self.longest = require_at_least("model.selector.encoder.longest", longest, shortest)
        if (dimensions, shortest, longest) == _DEFAULTS:
            self.threshold = _THRESHOLD  # without asking for it in every run

    @cached_property
    def _vectorizer(self) -> Any:
        from sklearn.feature_extraction.text import HashingVectorizer

        return HashingVectorizer(
            analyzer="char_wb",
            ngram_range=(self.shortest, self.longest),
            n_features=self.dimensions,
            norm=None,
            dtype=np.float32,
        )

    def _embed(self, texts: list[str]) -> Tensor:
        return torch.from_numpy(self._vectorizer.transform(texts).toarray())
