"""FedSD and what is built on it: methods whose clients train on what the model itself has written.

What they write, and how, is `lit_fed.methods.rewriting`.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods.fedsd.fedsd import FedSD
    from lit_fed.methods.fedsd.fedsdr import FedSDR
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["FedSD", "FedSDR"]
