"""MSI and the injection that perturbs a model's modules.

The injection knows a backbone and its passes; it knows no loss and no round.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods.msi.injection import StructureInjection
    from lit_fed.methods.msi.msi import MSI
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["MSI", "StructureInjection"]
