"""Hugging Face models, their tokenizers, and the part of them that is trained."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lit_fed.backbones.backbone import Backbone
from lit_fed.backbones.causal_lm import CausalLM
from lit_fed.backbones.prediction import Prediction
from lit_fed.backbones.sequence_classifier import SequenceClassifier
from lit_fed.backbones.text_generator import TextGenerator

if TYPE_CHECKING:
    from lit_fed.backbones.bitfit import BitFitConfig
    from lit_fed.backbones.bottleneck import BottleneckConfig

__all__ = [
    "Backbone",
    "BitFitConfig",
    "BottleneckConfig",
    "CausalLM",
    "Prediction",
    "SequenceClassifier",
    "TextGenerator",
]

_MODULES = {"BitFitConfig": "bitfit", "BottleneckConfig": "bottleneck"}


def __getattr__(name: str) -> Any:
    # Subclasses of peft's classes, which take seconds to import, are imported when they are asked for.
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
