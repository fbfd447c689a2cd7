"""Prototypes: anchors of a representation space, made of clean references, and what is decided by them.

They know vectors, classes and texts; of models only what makes a set of references. They know no round.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.prototypes.drift import prototype_drift, share_beyond
    from lit_fed.prototypes.fitting import fit_prototypes
    from lit_fed.prototypes.gates import (
        AgreementGate,
        ConformalGate,
        Gate,
        Judgement,
        NoGate,
        conformal_p_values,
    )
    from lit_fed.prototypes.margins import EarlyMargin, MarginSchedule, RisingMargin
    from lit_fed.prototypes.merging import adapt_prototypes, merge_prototypes
    from lit_fed.prototypes.prototype_set import NO_CLASS, PrototypeSet
    from lit_fed.prototypes.synthetic_references import SyntheticReferences
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "NO_CLASS",
    "AgreementGate",
    "ConformalGate",
    "EarlyMargin",
    "Gate",
    "Judgement",
    "MarginSchedule",
    "NoGate",
    "PrototypeSet",
    "RisingMargin",
    "SyntheticReferences",
    "adapt_prototypes",
    "conformal_p_values",
    "fit_prototypes",
    "merge_prototypes",
    "prototype_drift",
    "share_beyond",
]
