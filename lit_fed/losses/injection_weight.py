"""The weight that the two terms of modular structure injection share."""

from __future__ import annotations

from typing import Any

from lit_fed.limits import require_non_negative


class InjectionWeightMixin:
    """Gives a method the one weight μ of L_MSI = L_stability + β · L_weight.

    Args:
        mu: μ ≥ 0, weight of modular structure injection in the client's loss. 0: off.
        **kwargs: For the next class.
    """

    def __init__(self, *, mu: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mu = require_non_negative("model.mu", mu)
