"""Calibrated encoder: one whose threshold is measured when it is first asked for."""

from __future__ import annotations

from functools import cached_property

from lit_fed.methods.semantic_consensus.encoders.answer_encoder import AnswerEncoder
from lit_fed.methods.semantic_consensus.encoders.calibration import calibrated_threshold
from lit_fed.methods.semantic_consensus.encoders.calibration_answers import ANSWERS, PROMPTS


class CalibratedEncoder(AnswerEncoder):
    """An encoder over any model: models differ in how far from each other answers lie.

    Attributes:
        threshold: The cut that tells the package's answers that say the same from different ones to a question, see
            :func:`~lit_fed.methods.semantic_consensus.encoders.calibration.calibrated_threshold`.
    """

    @cached_property
    def threshold(self) -> float:  # type: ignore[override]  # measured, and kept, where the base says a number
        """The cosine distance up to which two answers are taken to say the same."""
        return calibrated_threshold(self, ANSWERS, PROMPTS)
