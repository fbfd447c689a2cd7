"""Prototype-constrained semantic defence: a federation whose rows are judged by prototypes of clean references.

Prototypes and gates are `lit_fed.prototypes`; here is how a federation's server makes them and clients go by them.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods.prototype_defense.encoders import (
        FittedEncoder,
        GateEncoder,
        PretrainedEncoder,
        TeacherEncoder,
    )
    from lit_fed.methods.prototype_defense.gated_rows import Dropped
    from lit_fed.methods.prototype_defense.prototype_defense import PrototypeDefense
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "Dropped",
    "FittedEncoder",
    "GateEncoder",
    "PretrainedEncoder",
    "PrototypeDefense",
    "TeacherEncoder",
]
