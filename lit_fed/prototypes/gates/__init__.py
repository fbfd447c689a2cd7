"""Gates: what decides by prototypes which rows a client trains on. A gate knows vectors and labels, no model."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.prototypes.gates.agreement_gate import AgreementGate
    from lit_fed.prototypes.gates.conformal_gate import (
        ConformalGate,
        conformal_p_values,
        fewest_calibrated,
    )
    from lit_fed.prototypes.gates.gate import Gate, Judgement
    from lit_fed.prototypes.gates.no_gate import NoGate
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "AgreementGate",
    "ConformalGate",
    "Gate",
    "Judgement",
    "NoGate",
    "conformal_p_values",
    "fewest_calibrated",
]
