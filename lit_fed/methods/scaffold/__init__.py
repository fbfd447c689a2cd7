"""SCAFFOLD, and the control variates that it corrects gradients by."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods.scaffold.control_variate import ControlVariate
    from lit_fed.methods.scaffold.scaffold import CONTROLS, SCAFFOLD
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["CONTROLS", "SCAFFOLD", "ControlVariate"]
