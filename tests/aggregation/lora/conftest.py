"""Tiny models of several architectures for rules over LoRA."""

from tests.backbones.conftest import tiny_model

__all__ = ["tiny_model"]
