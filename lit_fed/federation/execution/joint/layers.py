"""How modules compute with parameters of which each client has its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from lit_fed.backbones.bitfit import BitFitLayer
from lit_fed.backbones.bottleneck import BottleneckLayer
from lit_fed.federation.execution.joint.lora_product import LoraProduct

if TYPE_CHECKING:
    from lit_fed.federation.execution.joint.members import Members

Leaves = Mapping[str, Tensor]
"""A module's own parameters, [K, …] each, by their names in it."""


class JointLayer:
    """A module that computes for K clients at once; in general one client after the other.

    That is right for any module whose rows do not depend on each other.

    Args:
        module: The resident module.
        name: Its name in the model.
        places: Which of its parameters the clients have of their own: module and name there, by the
            name in ``module``.
    """

    def __init__(
        self, module: nn.Module, name: str, places: Mapping[str, tuple[nn.Module, str]]
    ) -> None:
        self.module = module
        self.name = name
        self.places = places
        self.alone: Callable[..., Any] = module.forward

    def __call__(self, joint: JointState, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The module's output for the clients at hand."""
        return one_by_one(self, joint, self.alone, args, kwargs)

    @contextmanager
    def holding(self, leaves: Leaves) -> Iterator[None]:
        """Let the module hold one client's parameters."""
        before: dict[str, Any] = {}
        for name, value in leaves.items():
            module, own = self.places[name]
            before[name] = module._parameters[own]
            module._parameters[own] = value  # type: ignore[assignment]
        try:
            yield
        finally:
            for name, value in before.items():
                module, own = self.places[name]
                module._parameters[own] = value


class JointState:
    """What the layers of a joint pass go by.

    Attributes:
        members: The clients of the part that runs at the moment.
    """

    members: Members

    def leaves(self, layer: JointLayer) -> dict[str, Tensor]:
        """The layer's parameters of all clients of the pass, [K, …]."""
        raise NotImplementedError

    @contextmanager
    def only(self, place: int) -> Iterator[None]:
        """Run a part for one of the clients."""
        raise NotImplementedError
        yield


def one_by_one(
    layer: JointLayer,
    joint: JointState,
    forward: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Each client's rows through a module that holds its parameters."""
    members = joint.members
    count = len(members.clients)
    leaves = {name: leaf.unbind(0) for name, leaf in joint.leaves(layer).items()}
    parts: list[tuple[Any, ...]] = [_taken(members, arg, layer.name) for arg in args]
    named = {key: _taken(members, value, layer.name) for key, value in kwargs.items()}
    outputs = []
    for place in range(count):
        own = {name: values[place] for name, values in leaves.items()}
        with joint.only(place), layer.holding(own):
            outputs.append(
                forward(*(part[place] for part in parts), **{k: v[place] for k, v in named.items()})
            )
    return _together(outputs)


def _taken(members: Members, value: Any, name: str) -> tuple[Any, ...]:
    count = len(members.clients)
    if isinstance(value, tuple | list):
        parts = [_taken(members, one, name) for one in value]
        return tuple(type(value)(part[place] for part in parts) for place in range(count))
    # What has no rows, as positions of tokens, is for everyone.
    if not isinstance(value, Tensor) or value.dim() < 2:
        return (value,) * count
    return members.blocks(value, name).unbind(0)


def _together(outputs: list[Any]) -> Any:
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat(outputs)
    if isinstance(first, tuple | list):
        return type(first)(_together(list(parts)) for parts in zip(*outputs, strict=True))
    return first


class JointLinear(JointLayer):
    """A linear map, or its bias alone, as one batched product."""

    def __call__(self, joint: JointState, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """[K·B, …, in] → [K·B, …, out]."""
        (x,) = args
        module: Any = self.module
        leaves = joint.leaves(self)
        weight, bias = leaves.get("weight"), leaves.get("bias")
        if weight is None:
            return _plus(joint, F.linear(x, module.weight), bias, self.name)
        blocks = joint.members.blocks(x, self.name)
        flat = blocks.flatten(1, -2)
        if bias is not None:
            out = torch.baddbmm(bias.unsqueeze(1), flat, weight.mT)
        else:
            out = torch.bmm(flat, weight.mT)
            if module.bias is not None:
                out = out + module.bias
        return out.view(*blocks.shape[:-1], -1).flatten(0, 1)


def _plus(joint: JointState, x: Tensor, change: Tensor | None, name: str) -> Tensor:
    """[K·B, …, d] plus one [d] a client."""
    if change is None:
        return x
    blocks = joint.members.blocks(x, name)
    return (blocks + _spread(change, blocks)).flatten(0, 1)


def _spread(vector: Tensor, blocks: Tensor) -> Tensor:
    """[K, d] as [K, 1, …, 1, d]."""
    return vector.view(len(vector), *[1] * (blocks.dim() - 2), -1)


class JointNorm(JointLayer):
    """A layer norm."""

    def __call__(self, joint: JointState, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """[K·B, …, d] → the same."""
        (x,) = args
        module: Any = self.module
        leaves = joint.leaves(self)
        normed = F.layer_norm(x, module.normalized_shape, None, None, module.eps)
        blocks = joint.members.blocks(normed, self.name)
        for name in ("weight", "bias"):
            value = leaves.get(name, getattr(module, name))
            if value is None:
                continue
            spread = _spread(value, blocks) if name in leaves else value
            blocks = blocks * spread if name == "weight" else blocks + spread
        return blocks.flatten(0, 1)


class JointLora(JointLayer):
    """A LoRA layer: the frozen map of all rows, and to it each client's own in one batched product."""

    def __call__(self, joint: JointState, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """[K·B, …, in] → [K·B, …, out]."""
        module: Any = self.module
        x = args[0]
        leaves = joint.leaves(self)
        if self._is_simple(x, leaves):
            return self._at_once(joint, x, leaves)
        result = module.base_layer(*args, **kwargs)
        if module.disable_adapters:
            return result
        dtype, shape = result.dtype, result.shape
        for adapter in module.active_adapters:
            if adapter not in module.lora_A:
                continue
            down, up = leaves[f"lora_A.{adapter}.weight"], leaves[f"lora_B.{adapter}.weight"]
            dropped = module.lora_dropout[adapter](module._cast_input_dtype(x, down.dtype))
            inner = torch.bmm(joint.members.blocks(dropped, self.name).flatten(1, -2), down.mT)
            flat = joint.members.blocks(result, self.name).flatten(1, -2)
            scaling = module.scaling[adapter]
            if flat.dtype == inner.dtype == up.dtype:
                result = torch.baddbmm(flat, inner, up.mT, alpha=scaling)
            else:
                result = flat + torch.bmm(inner, up.mT) * scaling
            result = result.view(shape)
            bias = leaves.get(f"lora_B.{adapter}.bias")
            result = _plus(joint, result, None if bias is None else bias * scaling, self.name)
        return result.to(dtype)

    def _is_simple(self, x: Tensor, leaves: Leaves) -> bool:
        """Whether it is one adapter on a plain frozen map, all in one dtype."""
        module: Any = self.module
        base = module.base_layer
        return (
            type(base) is nn.Linear
            and not base._forward_hooks
            and not base.weight.requires_grad
            and not module.disable_adapters
            and len(module.active_adapters) == 1
            and module.active_adapters[0] in module.lora_A
            and f"lora_B.{module.active_adapters[0]}.bias" not in leaves
            and not torch.is_autocast_enabled(x.device.type)
            and x.dtype == base.weight.dtype == next(iter(leaves.values())).dtype
        )

    def _at_once(self, joint: JointState, x: Tensor, leaves: Leaves) -> Tensor:
        module: Any = self.module
        (adapter,) = module.active_adapters
        blocks = joint.members.blocks(x, self.name)
        flat = blocks.flatten(1, -2)
        dropped = flat
        if module.training and not isinstance(module.lora_dropout[adapter], nn.Identity):
            dropped = module.lora_dropout[adapter](x)
            dropped = joint.members.blocks(dropped, self.name).flatten(1, -2)
        base = module.base_layer
        down, up = leaves[f"lora_A.{adapter}.weight"], leaves[f"lora_B.{adapter}.weight"]
        y: Tensor = LoraProduct.apply(
            flat, dropped, base.weight, base.bias, down, up, module.scaling[adapter]
        )
        return y.view(*blocks.shape[:-1], -1).flatten(0, 1)


class JointBitFit(JointLayer):
    """A BitFit layer: what it adds to the bias is added to the output."""

    def __call__(self, joint: JointState, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """[K·B, …, d] plus one [d] a client."""
        module: Any = self.module
        output = module.base_layer(*args, **kwargs)
        if module.disable_adapters:
            return output
        for adapter in module.active_adapters:
            change = joint.leaves(self).get(f"bitfit_bias.{adapter}")
            if change is not None:
                output = _plus(joint, output, change.to(output.dtype), self.name)
        return output


def joint_layers(
    model: nn.Module, leaves: Mapping[int, int]
) -> list[tuple[JointLayer, dict[str, int]]]:
    """The modules that hold parameters of the clients' own, as they are computed jointly.

    Args:
        model: The resident model.
        leaves: Numbers of these parameters by their ids.

    Returns:
        The layers, and the numbers of their parameters by the names in the layer.
    """
    layers: list[tuple[JointLayer, dict[str, int]]] = []
    outer = "\0"
    for name, module in model.named_modules():
        if name.startswith(outer) or name.split(".")[0] == "prompt_encoder":
            continue
        wrapper = isinstance(module, BaseTunerLayer) and not isinstance(module, BottleneckLayer)
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


def _kind(module: Any, places: Mapping[str, Any]) -> type[JointLayer]:
    if type(module) is nn.Linear:
        return JointLinear
    if type(module) is nn.LayerNorm and len(module.normalized_shape) == 1:
        return JointNorm
    if type(module) is LoraLinear and not module.lora_variant:
        maps = all(name.startswith(("lora_A.", "lora_B.")) for name in places)
        return JointLora if maps else JointLayer
    if isinstance(module, BitFitLayer):
        base: Any = module.get_base_layer()
        affine = isinstance(base, nn.Linear | nn.LayerNorm) or type(base).__name__ == "Conv1D"
        return JointBitFit if affine and len(places) == len(module.bitfit_bias) else JointLayer
    return JointLayer
