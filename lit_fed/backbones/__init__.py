"""Hugging Face models, their tokenizers, and the part of them that is trained.

Knows no method, no perturbation and no federation.
"""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.backbones.backbone import Backbone
    from lit_fed.backbones.bitfit import BitFitConfig
    from lit_fed.backbones.black_box import BlackBox
    from lit_fed.backbones.bottleneck import BottleneckConfig
    from lit_fed.backbones.callable_generator import CallableGenerator
    from lit_fed.backbones.causal_lm import CausalLM
    from lit_fed.backbones.generation.sampling import Sampling
    from lit_fed.backbones.http_generator import HTTPGenerator
    from lit_fed.backbones.prediction import Prediction
    from lit_fed.backbones.sequence_classifier import SequenceClassifier
    from lit_fed.backbones.text_generator import TextGenerator
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "Backbone",
    "BitFitConfig",
    "BlackBox",
    "BottleneckConfig",
    "CallableGenerator",
    "CausalLM",
    "HTTPGenerator",
    "Prediction",
    "Sampling",
    "SequenceClassifier",
    "TextGenerator",
]
