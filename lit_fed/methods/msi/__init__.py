"""MSI and the injection that perturbs a model's modules.

The injection knows a backbone and its passes; it knows no loss and no round.
"""

from lit_fed.methods.msi.injection import StructureInjection
from lit_fed.methods.msi.msi import MSI

__all__ = ["MSI", "StructureInjection"]
