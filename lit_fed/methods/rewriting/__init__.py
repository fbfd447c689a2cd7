"""Rewriting: what clients make of their rows' targets by the model itself, before they train on them.

Any method that averages weights can have it, as its argument ``rewriting``. It knows the data's encoding and the
backbone, and no method.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.methods.rewriting.filters import LeakFilter, NoFilter, RewritingFilter
    from lit_fed.methods.rewriting.rewriting import Rewriting, Rewritten
    from lit_fed.methods.rewriting.self_distillation import SelfDistillation
    from lit_fed.methods.rewriting.soft_targets import SoftTargets
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "LeakFilter",
    "NoFilter",
    "Rewriting",
    "RewritingFilter",
    "Rewritten",
    "SelfDistillation",
    "SoftTargets",
]
