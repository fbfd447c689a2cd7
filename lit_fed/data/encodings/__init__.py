"""How rows become token ids and labels, one way a file."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.data.encodings.causal_lm import CausalLMEncoding
    from lit_fed.data.encodings.classification import ClassificationEncoding
    from lit_fed.data.encodings.encoding import Encoding
    from lit_fed.data.encodings.instruction import InstructionEncoding
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["CausalLMEncoding", "ClassificationEncoding", "Encoding", "InstructionEncoding"]
