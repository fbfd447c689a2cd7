"""A metric that needs all texts together: they are kept as bytes, which processes can exchange."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_fed.metrics.wide_states import WideStates


class CollectedTexts(WideStates):
    """A metric whose states are texts, each with a number such as its client's.

    torchmetrics exchanges tensors alone, and those that a process without data makes are of the metric's own
    dtype; so each byte of the texts, in UTF-8, is a float, and so is their length.

    Args:
        kwargs: Arguments of :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False
    plot = Metric._plot

    headers: list[Tensor] | Tensor
    content: list[Tensor] | Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("headers", [], dist_reduce_fx="cat")
        self.add_state("content", [], dist_reduce_fx="cat")

    def collect(self, texts: Sequence[str], number: int = 0) -> None:
        """Keeps texts.

        Args:
            texts: The texts.
            number: Their number.
        """
        if not texts or not isinstance(self.headers, list) or not isinstance(self.content, list):
            return
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        lengths = [[number, len(text)] for text in encoded]
        self.headers.append(torch.tensor(lengths, dtype=self.dtype, device=self.device).flatten())
        content = torch.tensor(list(b"".join(encoded)), dtype=self.dtype, device=self.device)
        self.content.append(content)

    def collected(self) -> list[tuple[int, str]]:
        """All texts with their numbers."""
        if isinstance(self.headers, list) and not self.headers:
            return []
        headers = dim_zero_cat(self.headers).reshape(-1, 2).int().tolist()
        content = bytes(dim_zero_cat(self.content).to(torch.uint8).tolist())
        found, at = [], 0
        for number, length in headers:
            found.append((number, content[at : at + length].decode("utf-8", "surrogatepass")))
            at += length
        return found
