"""Defences against poisoned rows and triggered inputs: filters that are not aggregation rules.

A defence knows rows and a model's answers; it knows no method and no round.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.defenses.activation_clustering import ActivationClustering
    from lit_fed.defenses.cube import CUBE
    from lit_fed.defenses.drift import DriftWindow, alarm_count, drift_windows, text_drift
    from lit_fed.defenses.fitted_representation import FittedRepresentation
    from lit_fed.defenses.input_defense import Classify, InputDefense, Inspection
    from lit_fed.defenses.kept_rows import KeptRows
    from lit_fed.defenses.onion import ONION
    from lit_fed.defenses.onion_rows import ONIONRows
    from lit_fed.defenses.perplexity_filter import PerplexityFilter
    from lit_fed.defenses.pretrained_representation import PretrainedRepresentation
    from lit_fed.defenses.prototype_filter import PrototypeFilter
    from lit_fed.defenses.reference_language_model import ReferenceLanguageModel
    from lit_fed.defenses.references_only import ReferencesOnly
    from lit_fed.defenses.representation import Representation
    from lit_fed.defenses.row_defense import RowDefense
    from lit_fed.defenses.strip import STRIP
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "CUBE",
    "ONION",
    "STRIP",
    "ActivationClustering",
    "Classify",
    "DriftWindow",
    "FittedRepresentation",
    "InputDefense",
    "Inspection",
    "KeptRows",
    "ONIONRows",
    "PerplexityFilter",
    "PretrainedRepresentation",
    "PrototypeFilter",
    "ReferenceLanguageModel",
    "ReferencesOnly",
    "Representation",
    "RowDefense",
    "alarm_count",
    "drift_windows",
    "text_drift",
]
