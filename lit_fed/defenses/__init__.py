"""Defences against poisoned rows and triggered inputs: filters that are not aggregation rules.

A defence knows rows and a model's answers; it knows no method and no round.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.defenses.input_defense import Classify, InputDefense, Inspection
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["Classify", "InputDefense", "Inspection"]
