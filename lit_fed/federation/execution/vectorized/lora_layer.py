"""A LoRA layer of which each client has its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lit_fed.federation.execution.vectorized.layers import (
    Leaves,
    VectorizedLayer,
    VectorizedState,
    plus,
)
from lit_fed.federation.execution.vectorized.lora_product import LoraProduct


class VectorizedLora(VectorizedLayer):
    """A LoRA layer: the frozen map of all rows, and to it each client's own in one batched product."""

    def __call__(
        self, state: VectorizedState, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """[K·B, …, in] → [K·B, …, out]."""
        module: Any = self.module
        x = args[0]
        leaves = state.leaves(self)
        if self._is_simple(x, leaves):
            return self._at_once(state, x, leaves)
        result = module.base_layer(*args, **kwargs)
        if module.disable_adapters:
            return result
        dtype, shape = result.dtype, result.shape
        for adapter in module.active_adapters:
            if adapter not in module.lora_A:
                continue
            down, up = leaves[f"lora_A.{adapter}.weight"], leaves[f"lora_B.{adapter}.weight"]
            dropped = module.lora_dropout[adapter](module._cast_input_dtype(x, down.dtype))
            inner = torch.bmm(state.layout.blocks(dropped, self.name).flatten(1, -2), down.mT)
            flat = state.layout.blocks(result, self.name).flatten(1, -2)
            scaling = module.scaling[adapter]
            if flat.dtype == inner.dtype == up.dtype:
                result = torch.baddbmm(flat, inner, up.mT, alpha=scaling)
            else:
                result = flat + torch.bmm(inner, up.mT) * scaling
            result = result.view(shape)
            bias = leaves.get(f"lora_B.{adapter}.bias")
            result = plus(state, result, None if bias is None else bias * scaling, self.name)
        return result.to(dtype)

    def _is_simple(self, x: Tensor, leaves: Leaves) -> bool:
        """Whether it is adapters on a plain frozen map, all in one dtype, and no two with dropout of their own."""
        module: Any = self.module
        base, active = module.base_layer, module.active_adapters
        return (
            type(base) is nn.Linear
            and not base._forward_hooks
            and not base.weight.requires_grad
            and not module.disable_adapters
            and all(one in module.lora_A and f"lora_B.{one}.bias" not in leaves for one in active)
            and (len(active) == 1 or not any(map(self._drops, active)))
            and not torch.is_autocast_enabled(x.device.type)
            and x.dtype == base.weight.dtype == next(iter(leaves.values())).dtype
        )

    def _drops(self, adapter: str) -> bool:
        module: Any = self.module
        return module.training and not isinstance(module.lora_dropout[adapter], nn.Identity)

    def _at_once(self, state: VectorizedState, x: Tensor, leaves: Leaves) -> Tensor:
        module: Any = self.module
        active = module.active_adapters
        blocks = state.layout.blocks(x, self.name)
        flat = blocks.flatten(1, -2)
        dropped = flat
        if self._drops(active[0]):
            dropped = module.lora_dropout[active[0]](x)
            dropped = state.layout.blocks(dropped, self.name).flatten(1, -2)
        base, scaling = module.base_layer, module.scaling[active[0]]
        down, up = leaves[f"lora_A.{active[0]}.weight"], leaves[f"lora_B.{active[0]}.weight"]
        if len(active) > 1:
            # a sum of products is the product of the factors side by side
            scaled = [leaves[f"lora_B.{one}.weight"] * module.scaling[one] for one in active]
            down = torch.cat([leaves[f"lora_A.{one}.weight"] for one in active], 1)
            up, scaling = torch.cat(scaled, 2), 1.0
        y: Tensor = LoraProduct.apply(  # type: ignore[no-untyped-call]
            flat, dropped, base.weight, base.bias, down, up, scaling
        )
        return y.view(*blocks.shape[:-1], -1).flatten(0, 1)
