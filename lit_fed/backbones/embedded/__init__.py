"""The embedded default backbones: tiny bilingual transformers that are made here, not downloaded."""

from lit_fed.backbones.embedded.recipe import Recipe
from lit_fed.backbones.embedded.store import embedded_model
from lit_fed.backbones.embedded.tokenizer import embedded_tokenizer

__all__ = ["Recipe", "embedded_model", "embedded_tokenizer"]
