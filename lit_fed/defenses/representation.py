"""Representation: vectors of a client's rows, in which poisoned ones lie apart."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lit_fed.backbones import SequenceClassifier
from lit_fed.backbones.padding import undisturbed
from lit_fed.limits import require_at_least
from lit_fed.losses.mean_pool import mean_pool


class Representation(ABC):
    """Makes a vector of each row of a client, by a sequence classifier.

    The vector is the mean of the last hidden states over the row's tokens. A row that is too long is cut.

    Args:
        model: A local folder in Hugging Face format, or a name on the hub. None: the embedded encoder.
        batch_size: Rows at once.
        device: Where the model is run, such as ``cpu`` or ``cuda:0``.

    Raises:
        ValueError: If ``batch_size`` is below 1.
    """

    def __init__(self, model: str | None = None, batch_size: int = 16, device: str = "cpu") -> None:
        self.model = model
        self.batch_size = require_at_least("representation.batch_size", batch_size, 1)
        self.device = device

    @abstractmethod
    def vectors(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        labels: npt.NDArray[np.int64],
        seed: int,
    ) -> npt.NDArray[np.float32]:
        """The rows' vectors, [n, d].

        Args:
            texts: n texts, at least one.
            pairs: n second texts. None: there are none.
            labels: The classes that the rows are said to have, from 0, [n].
            seed: Of what is random.
        """

    def _loaded(self, classes: int) -> SequenceClassifier:
        backbone = SequenceClassifier(self.model, num_labels=max(2, classes), peft=None)
        return backbone.to(self.device)

    def _pooled(
        self, backbone: SequenceClassifier, texts: Sequence[str], pairs: Sequence[str] | None
    ) -> npt.NDArray[np.float32]:
        rows = range(len(texts))
        parts = [rows[i : i + self.batch_size] for i in range(0, len(texts), self.batch_size)]
        found = []
        with undisturbed(backbone):
            for batch in self._batches(backbone, texts, pairs, parts):
                prediction = backbone(batch, output_hidden=True)
                if prediction.hidden is not None:
                    pooled = mean_pool(prediction.hidden, prediction.attention_mask)
                    found.append(pooled.float().cpu())
        return np.asarray(torch.cat(found).numpy(), np.float32)

    def _batches(
        self,
        backbone: SequenceClassifier,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        parts: Sequence[Sequence[int]],
    ) -> Iterator[Mapping[str, Tensor]]:
        """The rows at the places that each part names, as the model reads them."""
        tokenizer: Any = backbone.tokenizer
        room = backbone.max_tokens
        for part in parts:
            second = None if pairs is None else [pairs[i] for i in part]
            batch = tokenizer(
                [texts[i] for i in part],
                second,
                padding=True,
                truncation=room is not None,
                max_length=room,
                return_tensors="pt",
            )
            yield {name: value.to(self.device) for name, value in batch.items()}
