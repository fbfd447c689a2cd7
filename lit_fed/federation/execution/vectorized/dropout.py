"""Dropout in a vectorized pass, which each client draws from its own stream."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lit_fed.federation.execution.vectorized.batch_layout import BatchLayout
from lit_fed.federation.execution.vectorized.random_streams import RandomStreams
from lit_fed.federation.execution.vectorized.vectorizable import CannotVectorize

_OTHERS: Final[frozenset[Any]] = frozenset(
    {
        F.alpha_dropout,
        F.dropout1d,
        F.dropout2d,
        F.dropout3d,
        F.feature_alpha_dropout,
        F.gumbel_softmax,
        F.rrelu,
        Tensor.bernoulli,
        Tensor.bernoulli_,
        Tensor.exponential_,
        Tensor.multinomial,
        Tensor.normal_,
        Tensor.random_,
        Tensor.uniform_,
        torch.bernoulli,
        torch.multinomial,
        torch.normal,
        torch.rand,
        torch.rand_like,
        torch.randint,
        torch.randint_like,
        torch.randn,
        torch.randn_like,
        torch.randperm,
    }
)


class ClientDropout(TorchFunctionMode):
    """Within it dropout draws what each client would have drawn alone.

    The masks of ``dropout`` are those of a sequential run on every device; so are those within
    ``scaled_dot_product_attention`` on the CPU, whereas the fused kernels of accelerators draw by a rule
    of their own: there a client's masks are as independent, but others.

    Args:
        streams: The clients' streams.
        layout: The clients of the part that runs at the moment.

    Attributes:
        drew: Whether anything was drawn.
    """

    def __init__(self, streams: RandomStreams, layout: Callable[[], BatchLayout]) -> None:
        super().__init__()
        self.streams = streams
        self.layout = layout
        self.drew = False

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace what draws."""
        kwargs = kwargs or {}
        if func is F.dropout or func is torch.dropout:
            return self._dropout(func, *args, **kwargs)
        if func is F.scaled_dot_product_attention and _drops(*args, **kwargs):
            return self._attention(*args, **kwargs)
        if func in _OTHERS and kwargs.get("generator") is None:
            raise CannotVectorize(f"a model that draws random numbers by `{func.__name__}`")
        return func(*args, **kwargs)

    def _dropout(
        self,
        func: Any,
        input: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        training = kwargs.get("train", training)
        if not training or not p:
            dropped: Tensor = func(input, p, training)
            return dropped
        mask = self._mask(input, p)
        return input.mul_(mask) if inplace else input * mask

    def _mask(self, like: Tensor, p: float) -> Tensor:
        """0 or 1 / (1 − p)."""
        self.drew = True
        layout = self.layout()
        masks = []
        parts = layout.split(like.detach(), "dropout")
        for client, part in zip(layout.clients, parts, strict=True):
            self.streams.enter_torch(client)
            ones = torch.ones(part.shape, dtype=like.dtype, device=like.device)
            masks.append(F.dropout(ones, p))
        return layout.join(masks, like)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if enable_gqa:
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
            value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
        scores = query @ key.mT * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        if attn_mask is None or attn_mask.dtype != torch.bool:
            shares = (scores if attn_mask is None else scores + attn_mask).softmax(-1)
        else:
            shares = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min).softmax(-1)
            # A row that sees nothing gives zeros, as in the fused kernels.
            shares = shares.masked_fill(~attn_mask.any(-1, keepdim=True), 0.0)
        return (shares * self._mask(shares, dropout_p)) @ value


def _drops(*args: Any, **kwargs: Any) -> bool:
    p = args[4] if len(args) > 4 else kwargs.get("dropout_p", 0.0)
    return bool(p)
