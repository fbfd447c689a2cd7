"""Compression of uploads: attachments that make what a client sends smaller. No rounds, no rules."""

from typing import TYPE_CHECKING

from lit_fed.lazy_names import lazy_names

if TYPE_CHECKING:
    from lit_fed.compression.eight_bit import EightBit
    from lit_fed.compression.half_precision import HalfPrecision
    from lit_fed.compression.rounding import Rounding
    from lit_fed.compression.top_k import TopK
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["EightBit", "HalfPrecision", "Rounding", "TopK"]
