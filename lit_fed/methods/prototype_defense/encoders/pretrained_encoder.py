"""Pretrained encoder: the student's base model as it was loaded."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lit_fed.backbones import Backbone
from lit_fed.methods.prototype_defense.encoders.gate_encoder import GateEncoder, pooled
from lit_fed.methods.teachers import Teacher, silent


class PretrainedEncoder(GateEncoder):
    """The student's backbone without its adapters: nothing is fitted, and nothing is sent.

    What it has not learnt it cannot tell apart: a sentence model, for instance, knows topics better than sentiment.

    Raises:
        ValueError: When the method is built, if the backbone trains all of its weights.
    """

    _backbone: Backbone | None = None

    def attach(self, student: Backbone, teacher: Teacher) -> None:
        """Keep the backbone; see the base class."""
        try:
            with student.using():
                self._backbone = student
        except ValueError:
            raise ValueError(
                "`model.encoder` PretrainedEncoder expects a frozen base, hence `model.backbone.peft` to be a PEFT "
                "configuration, but got null"
            ) from None

    @property
    def backbone(self) -> Backbone:
        """The student's; see the base class."""
        if self._backbone is None:
            raise RuntimeError("a PretrainedEncoder expects a backbone: call attach() first")
        return self._backbone

    def states(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The vectors of a batch; see the base class."""
        with silent(self.backbone), self.backbone.using():
            return pooled(self.backbone(batch, output_hidden=True))
