"""Encoders of the gate: what makes the vectors of rows by which they are judged.

An encoder knows the student's backbone and batches; it knows no prototypes and no clients.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods.prototype_defense.encoders.fitted_encoder import FittedEncoder
    from lit_fed.methods.prototype_defense.encoders.gate_encoder import GateEncoder
    from lit_fed.methods.prototype_defense.encoders.pretrained_encoder import PretrainedEncoder
    from lit_fed.methods.prototype_defense.encoders.teacher_encoder import TeacherEncoder
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["FittedEncoder", "GateEncoder", "PretrainedEncoder", "TeacherEncoder"]
