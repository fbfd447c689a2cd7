"""How rows become token ids and labels, one way a file."""

from lit_fed.data.encodings.causal_lm import CausalLMEncoding
from lit_fed.data.encodings.classification import ClassificationEncoding
from lit_fed.data.encodings.encoding import Encoding

__all__ = ["CausalLMEncoding", "ClassificationEncoding", "Encoding"]
