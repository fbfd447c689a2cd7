"""What differential privacy takes: the private gradient of a step, and the account of what has been spent.

No method, no server and no loop: they are given the objects of this folder.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.privacy.account import PrivacyAccount
    from lit_fed.privacy.dpsgd import DPSGD
    from lit_fed.privacy.private_gradient import PrivateGradient
    from lit_fed.privacy.sums_of_rows import require_sum_of_rows
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["DPSGD", "PrivacyAccount", "PrivateGradient", "require_sum_of_rows"]
