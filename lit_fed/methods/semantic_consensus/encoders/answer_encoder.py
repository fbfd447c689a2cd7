"""Answer encoder: unit vectors of texts, near each other where the texts say the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from lit_fed.backbones import Backbone


class AnswerEncoder(ABC):
    """Makes a unit vector of each answer, **without its prompt**: with it, all answers to a prompt look alike.

    Attributes:
        threshold: The cosine distance up to which two answers are taken to say the same, in [0, 2]: calibrated for
            this encoder on answers to the same and to other prompts, see ``calibrated_threshold``.
    """

    threshold: float

    # Not abstract: most encoders bring their own model.
    def setup(self, backbones: Sequence[Backbone]) -> None:  # noqa: B027
        """Receive the run's backbones, once, before the first text. Default: nothing.

        Args:
            backbones: Each of the run's different backbones.

        Raises:
            ValueError: If they do not fit the encoder.
        """

    def encode(self, texts: Sequence[str]) -> Tensor:
        """The texts' vectors; a text that comes again is encoded once.

        Args:
            texts: N texts.

        Returns:
            [N, D] in float32 on the CPU, each row of length 1; [0, 0] of no texts. A text in which the encoder finds
            nothing, or of which it makes no finite vector, has a row of zeros, at distance 1 from every other text:
            one client's text ends no run.
        """
        if not texts:
            return torch.zeros(0, 0)
        places: dict[str, int] = {}
        rows = [places.setdefault(text, len(places)) for text in texts]
        vectors = self._embed(list(places)).float().cpu()
        # In float64: float32 overflows at 1e19 when it squares.
        lengths = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True, dtype=torch.float64)
        usable = lengths.isfinite() & (lengths > 0)
        vectors = torch.where(usable, vectors / lengths.where(usable, 1.0).float(), 0.0)
        return vectors if len(places) == len(texts) else vectors[rows]

    @abstractmethod
    def _embed(self, texts: list[str]) -> Tensor:
        """The vectors of at least one text, all different, [N, D], of any length."""
