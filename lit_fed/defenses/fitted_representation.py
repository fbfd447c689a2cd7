"""Fitted representation: vectors by a model that has learnt the client's rows, the poisoned ones among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from lit_fed.defenses.representation import Representation
from lit_fed.fitting import descend
from lit_fed.limits import require_at_least, require_positive


class FittedRepresentation(Representation):
    """A model that is fitted on the client's rows with the labels that they are said to have.

    A model that has learnt a trigger keeps the rows with it apart from the others of their label, which is what
    clustering finds (Chen et al., 2018, §3; Cui et al., 2022, §4). All weights are trained, by AdamW on the cross
    entropy; a step is of ``batch_size`` rows that are drawn anew.

    Args:
        model: A local folder in Hugging Face format, or a name on the hub. None: the embedded encoder.
        steps: Optimizer steps.
        lr: Learning rate, above 0.
        batch_size: Rows at once.
        device: Where the model is run, such as ``cpu`` or ``cuda:0``.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> FittedRepresentation(steps=0)
        Traceback (most recent call last):
        ValueError: `representation.steps` is expected to be at least 1, but got 0
    """

    def __init__(
        self,
        model: str | None = None,
        steps: int = 100,
        lr: float = 5e-4,
        batch_size: int = 16,
        device: str = "cpu",
    ) -> None:
        super().__init__(model, batch_size, device)
        self.steps = require_at_least("representation.steps", steps, 1)
        self.lr = require_positive("representation.lr", lr)

    def vectors(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        labels: npt.NDArray[np.int64],
        seed: int,
    ) -> npt.NDArray[np.float32]:
        """The rows' vectors, [n, d], by a model that is fitted on just these rows."""
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            backbone = self._loaded(int(labels.max()) + 1)
            draw = np.random.default_rng(seed)
            size = min(self.batch_size, len(texts))
            parts = [
                draw.choice(len(texts), size, replace=False).tolist() for _ in range(self.steps)
            ]
            optimizer = torch.optim.AdamW(backbone.parameters(), lr=self.lr)
            backbone.train()
            batches = self._batches(backbone, texts, pairs, parts)
            targets = (torch.as_tensor(labels[part], device=self.device) for part in parts)
            descend(
                optimizer,
                (
                    torch.nn.functional.cross_entropy(backbone(batch).logits, own)
                    for batch, own in zip(batches, targets, strict=True)
                ),
            )
        return self._pooled(backbone, texts, pairs)
