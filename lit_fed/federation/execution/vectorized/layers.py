"""How modules compute with parameters of which each client has its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from lit_fed.federation.execution.vectorized.batch_layout import BatchLayout

Leaves = Mapping[str, Tensor]
"""A module's own parameters, [K, …] each, by their names in it."""


class VectorizedLayer:
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

    def __call__(
        self, state: VectorizedState, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The module's output for the clients at hand."""
        return one_by_one(self, state, self.alone, args, kwargs)

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


class VectorizedState(ABC):
    """What the layers of a vectorized pass go by.

    Attributes:
        layout: The clients of the part that runs at the moment.
    """

    layout: BatchLayout

    @abstractmethod
    def leaves(self, layer: VectorizedLayer) -> dict[str, Tensor]:
        """The layer's parameters of all clients of the pass, [K, …]."""

    @abstractmethod
    def only(self, place: int) -> AbstractContextManager[None]:
        """Run a part for one of the clients."""


def one_by_one(
    layer: VectorizedLayer,
    state: VectorizedState,
    forward: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Each client's rows through a module that holds its parameters."""
    layout = state.layout
    count = len(layout.clients)
    leaves = {name: leaf.unbind(0) for name, leaf in state.leaves(layer).items()}
    parts: list[tuple[Any, ...]] = [_taken(layout, arg, layer.name) for arg in args]
    named = {key: _taken(layout, value, layer.name) for key, value in kwargs.items()}
    outputs = []
    for place in range(count):
        own = {name: values[place] for name, values in leaves.items()}
        with state.only(place), layer.holding(own):
            outputs.append(
                forward(*(part[place] for part in parts), **{k: v[place] for k, v in named.items()})
            )
    return _together(outputs)


def _taken(layout: BatchLayout, value: Any, name: str) -> tuple[Any, ...]:
    count = len(layout.clients)
    if isinstance(value, tuple | list):
        parts = [_taken(layout, one, name) for one in value]
        return tuple(type(value)(part[place] for part in parts) for place in range(count))
    # What has no rows, as positions of tokens, is for everyone.
    if not isinstance(value, Tensor) or value.dim() < 2:
        return (value,) * count
    return layout.blocks(value, name).unbind(0)


def _together(outputs: list[Any]) -> Any:
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat(outputs)
    if isinstance(first, tuple | list):
        return type(first)(_together(list(parts)) for parts in zip(*outputs, strict=True))
    return first


class VectorizedLinear(VectorizedLayer):
    """A linear map, or its bias alone, as one batched product."""

    def __call__(
        self, state: VectorizedState, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """[K·B, …, in] → [K·B, …, out]."""
        (x,) = args
        module: Any = self.module
        leaves = state.leaves(self)
        weight, bias = leaves.get("weight"), leaves.get("bias")
        if weight is None:
            return plus(state, F.linear(x, module.weight), bias, self.name)
        blocks = state.layout.blocks(x, self.name)
        flat = blocks.flatten(1, -2)
        if bias is not None:
            out = torch.baddbmm(bias.unsqueeze(1), flat, weight.mT)
        else:
            out = torch.bmm(flat, weight.mT)
            if module.bias is not None:
                out = out + module.bias
        return out.view(*blocks.shape[:-1], -1).flatten(0, 1)


def plus(state: VectorizedState, x: Tensor, change: Tensor | None, name: str) -> Tensor:
    """[K·B, …, d] plus one [d] a client."""
    if change is None:
        return x
    blocks = state.layout.blocks(x, name)
    return (blocks + _spread(change, blocks)).flatten(0, 1)


def _spread(vector: Tensor, blocks: Tensor) -> Tensor:
    """[K, d] as [K, 1, …, 1, d]."""
    return vector.view(len(vector), *[1] * (blocks.dim() - 2), -1)


class VectorizedNorm(VectorizedLayer):
    """A layer norm."""

    def __call__(
        self, state: VectorizedState, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """[K·B, …, d] → the same."""
        (x,) = args
        module: Any = self.module
        leaves = state.leaves(self)
        normed = F.layer_norm(x, module.normalized_shape, None, None, module.eps)
        blocks = state.layout.blocks(normed, self.name)
        for name in ("weight", "bias"):
            value = leaves.get(name, getattr(module, name))
            if value is None:
                continue
            spread = _spread(value, blocks) if name in leaves else value
            blocks = blocks * spread if name == "weight" else blocks + spread
        return blocks.flatten(0, 1)


class VectorizedBitFit(VectorizedLayer):
    """A BitFit layer: what it adds to the bias is added to the output."""

    def __call__(
        self, state: VectorizedState, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """[K·B, …, d] plus one [d] a client."""
        module: Any = self.module
        output = module.base_layer(*args, **kwargs)
        if module.disable_adapters:
            return output
        for adapter in module.active_adapters:
            change = state.leaves(self).get(f"bitfit_bias.{adapter}")
            if change is not None:
                output = plus(state, output, change.to(output.dtype), self.name)
        return output
