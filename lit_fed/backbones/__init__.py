"""Hugging Face models, their tokenizers, and the part of them that is trained."""

from lit_fed.backbones.backbone import Backbone
from lit_fed.backbones.causal_lm import CausalLM
from lit_fed.backbones.prediction import Prediction
from lit_fed.backbones.sequence_classifier import SequenceClassifier

__all__ = ["Backbone", "CausalLM", "Prediction", "SequenceClassifier"]
