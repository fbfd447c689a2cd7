"""Which of a model's modules are vectorized, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from peft.tuners.ln_tuning.layer import LNTuningLayer
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from lit_fed.backbones.bitfit import BitFitLayer
from lit_fed.backbones.bottleneck import BottleneckLayer
from lit_fed.backbones.summed_lora import SummedLora
from lit_fed.federation.execution.vectorized.layers import (
    VectorizedBitFit,
    VectorizedLayer,
    VectorizedLinear,
    VectorizedNorm,
)
from lit_fed.federation.execution.vectorized.lora_layer import VectorizedLora

_CALLERS: Final = (BottleneckLayer, LNTuningLayer)
"""Wrappers which only call the modules that hold their parameters."""


def vectorized_layers(
    model: nn.Module, leaves: Mapping[int, int]
) -> list[tuple[VectorizedLayer, dict[str, int]]]:
    """The modules that hold parameters of the clients' own, as they are vectorized.

    Args:
        model: The resident model.
        leaves: Numbers of these parameters by their ids.

    Returns:
        The layers, and the numbers of their parameters by the names in the layer.
    """
    layers: list[tuple[VectorizedLayer, dict[str, int]]] = []
    outer = "\0"
    for name, module in model.named_modules():
        if name.startswith(outer) or name.split(".")[0] == "prompt_encoder":
            continue
        wrapper = isinstance(module, BaseTunerLayer) and not isinstance(module, _CALLERS)
        places, numbers = _places(module, leaves, recurse=wrapper)
        if not places:
            continue
        if wrapper:
            outer = f"{name}."
        layers.append((_kind(module, places)(module, name, places), numbers))
    return layers


def _places(
    module: nn.Module, leaves: Mapping[int, int], recurse: bool
) -> tuple[dict[str, tuple[nn.Module, str]], dict[str, int]]:
    places, numbers = {}, {}
    for prefix, part in module.named_modules() if recurse else [("", module)]:
        for own, parameter in part._parameters.items():
            if parameter is not None and id(parameter) in leaves:
                name = f"{prefix}.{own}" if prefix else own
                places[name], numbers[name] = (part, own), leaves[id(parameter)]
    return places, numbers


def _kind(module: Any, places: Mapping[str, Any]) -> type[VectorizedLayer]:
    if type(module) is nn.Linear:
        return VectorizedLinear
    if type(module) is nn.LayerNorm and len(module.normalized_shape) == 1:
        return VectorizedNorm
    if type(module) in (LoraLinear, SummedLora) and not module.lora_variant:
        maps = all(name.startswith(("lora_A.", "lora_B.")) for name in places)
        return VectorizedLora if maps else VectorizedLayer
    if isinstance(module, BitFitLayer):
        base: Any = module.get_base_layer()
        affine = isinstance(base, nn.Linear | nn.LayerNorm) or type(base).__name__ == "Conv1D"
        return (
            VectorizedBitFit
            if affine and len(places) == len(module.bitfit_bias)
            else VectorizedLayer
        )
    return VectorizedLayer
