"""The embedded models, which are shipped with the package: an encoder and a decoder in Hugging Face format."""

from lit_fed.backbones.embedded.embedded_model import EmbeddedKind, embedded_model

__all__ = ["EmbeddedKind", "embedded_model"]
