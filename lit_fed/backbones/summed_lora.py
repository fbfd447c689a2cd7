"""Several LoRAs that are active at once, computed as one while they train."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from lit_fed.shards import is_sharded


class SummedLora(Linear):
    r"""A LoRA layer of peft's whose active adapters are one product.

    .. math:: \sum_i s_i B_i A_i x = (s_1 B_1 \; s_2 B_2 \dots) \begin{pmatrix} A_1 \\ A_2 \\ \vdots \end{pmatrix} x

    In training the sum costs as many operations as a single adapter, and differs from peft's, which adds one adapter
    after the other, by rounding. In evaluation, and where adapters have a dropout of their own, a bias or another kind
    of change, it is left to peft.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[B, …, in] → [B, …, out]."""
        active = [name for name in self.active_adapters if name in self.lora_A]
        if args or kwargs or self.disable_adapters or self.merged or not self._adds_up(active):
            # not `super()`: who has taken this method along may call it when the class is peft's again
            result: Tensor = Linear.forward(self, x, *args, **kwargs)
            return result
        downs, ups = self._factors(active)
        down = torch.cat(downs)
        up = torch.cat([b * self.scaling[name] for b, name in zip(ups, active, strict=True)], 1)
        result = self.base_layer(x)
        change = F.linear(F.linear(self._cast_input_dtype(x, down.dtype), down), up)
        return (result + change).to(result.dtype)

    def _factors(self, active: list[str]) -> tuple[list[Tensor], list[Tensor]]:
        """A and B of some adapters."""
        downs, ups = (
            cast("dict[str, nn.Linear]", self.lora_A),
            cast("dict[str, nn.Linear]", self.lora_B),
        )
        return [downs[name].weight for name in active], [ups[name].weight for name in active]

    def _adds_up(self, active: list[str]) -> bool:
        downs, ups = self._factors(active)
        return (
            self.training
            and len(active) > 1
            and not any(name in self.lora_variant for name in active)
            and all(self.lora_B[name].bias is None for name in active)
            and len({factor.dtype for factor in (*downs, *ups)}) == 1
            and not any(map(is_sharded, (*downs, *ups)))
            and not any(map(self._drops, active))
        )

    def _drops(self, name: str) -> bool:
        return not isinstance(self.lora_dropout[name], nn.Identity)


def sum_adapters(layers: Iterable[Any], several: bool) -> None:
    """Let peft's plain LoRA layers compute their adapters as one, or as peft does.

    Args:
        layers: Modules of peft's, of which other kinds are left as they are.
        several: Whether several adapters are active.
    """
    kind, other = (SummedLora, Linear) if several else (Linear, SummedLora)
    for layer in layers:
        if type(layer) is other:
            layer.__class__ = kind
