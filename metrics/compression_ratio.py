"""How far texts can be compressed: the more they repeat themselves, the further."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from lit_fed.metrics.running_ratio import RunningRatio
from lit_fed.metrics.text_arguments import require_texts

_LEVEL = 9


def compressed_size(text: str) -> tuple[int, int]:
    """The bytes of a text in UTF-8, and those that zlib makes of them at its highest level.

    Args:
        text: The text.

    Example:
        >>> compressed_size("again and " * 10)[0]
        100
    """
    content = text.encode("utf-8", "surrogatepass")
    return len(content), len(zlib.compress(content, _LEVEL))


class CompressionRatio(RunningRatio):
    """Bytes of the texts over their bytes when each is compressed by zlib; lower is less redundant.

    As in Shaib et al., "Standardizing the Measurement of Text Diversity" (2024), https://arxiv.org/abs/2403.00553, but
    of each text alone, summed, so that neither order nor number of the texts matters. zlib (level 9, UTF-8) adds
    about 8 bytes to a text: the ratio of short ones is below 1, and texts are to be compared with others of
    similar length. Empty texts are left out.

    NaN (nothing to tell): no text with a character.

    Args:
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> plain, repeated = CompressionRatio(), CompressionRatio()
        >>> plain.update(["A text that says each thing once, and nothing twice."])
        >>> repeated.update(["again and again and again and again and again, again"])
        >>> bool(plain.compute() < 1.2 < 2 < repeated.compute())
        True
    """

    higher_is_better = False
    plot_lower_bound = 0.0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(scale=1.0, **kwargs)

    def update(self, preds: Sequence[str]) -> None:
        """Adds texts.

        Args:
            preds: The texts.

        Raises:
            TypeError: If it is no sequence of texts.
        """
        sizes = [compressed_size(text) for text in require_texts("preds", preds) if text]
        self.add(sum(before for before, _ in sizes), sum(after for _, after in sizes))
