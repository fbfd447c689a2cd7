"""Selectors that compare answers by their vectors."""

from __future__ import annotations

from collections.abc import Sequence

from lit_fed.backbones import Backbone
from lit_fed.methods.semantic_consensus.encoders.answer_encoder import AnswerEncoder
from lit_fed.methods.semantic_consensus.encoders.hashed_ngram_encoder import HashedNgramEncoder
from lit_fed.methods.semantic_consensus.selectors.selector import Selector


class EncodingSelector(Selector):
    """Has an encoder.

    Args:
        encoder: What makes vectors of answers; default: :class:`HashedNgramEncoder`.
    """

    def __init__(self, encoder: AnswerEncoder | None = None) -> None:
        self.encoder = HashedNgramEncoder() if encoder is None else encoder

    def setup(self, backbones: Sequence[Backbone]) -> None:
        """Hand the run's backbones to the encoder."""
        self.encoder.setup(backbones)
