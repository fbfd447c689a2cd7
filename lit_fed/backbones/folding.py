"""Folding: changes of a model's frozen weights are added to them, and taken out again bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from lit_fed.backbones.adapter_parameters import held_places
from lit_fed.backbones.master_weights import is_narrow
from lit_fed.shards import is_sharded, placed_like, whole

_LOST: Final = 0.01
"""The part of a change, by its norm, that the weights' type may round away without a word."""


@dataclass(frozen=True)
class WeightChange:
    """The change of one weight, [out, in]: a product P·Q, or a matrix.

    It is in the shape that peft's factors have: of a layer whose weight is stored transposed (GPT-2's ``Conv1D``) and
    of an embedding it is the change of the transposed weight.

    Attributes:
        p: P, [out, R]; without Q the change itself, [out, in].
        q: Q, [R, in].

    Example:
        >>> WeightChange(torch.ones(2, 1), torch.ones(1, 3)).dense()
        tensor([[1., 1., 1.],
                [1., 1., 1.]])
    """

    p: Tensor
    q: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """[out, in]."""
        return self.p.shape[0], (self.p if self.q is None else self.q).shape[1]

    def dense(self) -> Tensor:
        """The change itself, [out, in]."""
        return self.p if self.q is None else self.p @ self.q

    def factors(self) -> tuple[Tensor, Tensor]:
        """P and Q; of a matrix itself and the identity, on its shorter side."""
        if self.q is not None:
            return self.p, self.q
        out, width = self.shape
        if out >= width:
            return self.p, torch.eye(width, dtype=self.p.dtype)
        return torch.eye(out, dtype=self.p.dtype), self.p

    def plus(self, other: WeightChange) -> WeightChange:
        """The sum with another change, as one product, on this one's device."""
        (p, q), (p2, q2) = self.factors(), other.factors()
        return WeightChange(torch.cat([p, p2.to(p)], 1), torch.cat([q, q2.to(q)]))

    def same(self, other: WeightChange | None) -> bool:
        """Whether it is the same in the same form, value for value."""
        return other is not None and _same(self.p, other.p) and _same(self.q, other.q)

    def to(self, device: torch.device, dtype: torch.dtype) -> WeightChange:
        """On another device and of another type."""
        q = None if self.q is None else self.q.to(device, dtype)
        return WeightChange(self.p.to(device, dtype), q)


class Folding:
    """What is folded into the frozen weights under a model's adapters.

    A weight is always the loaded one plus all of the change, computed in float64 (float32 on Apple's GPUs) and rounded
    once to the weight's type: nothing adds up over rounds, and without a change it is the loaded one bit for bit. From
    the first fold on this keeps a copy of the weights that have been changed, in main memory.

    Args:
        model: A model in peft's wrapper.

    Attributes:
        changes: What is folded now, by the names of peft's layers in the wrapper.
        version: How often a weight has been changed.
    """

    def __init__(self, model: nn.Module) -> None:
        self.changes: dict[str, WeightChange] = {}
        self.version = 0
        self._model = model
        self._loaded: dict[str, Tensor] = {}
        self._warned = False

    def require(self, layers: Iterable[str], asks: str) -> None:
        """Refuse layers whose weights cannot be changed.

        Args:
            layers: Names of peft's layers in the wrapper.
            asks: Which setting asks, for the message.

        Raises:
            ValueError: If a weight is quantised or held by another module as well, or the layer is no linear one and no
                embedding.
        """
        held = [id(getattr(*place)) for place in held_places(self._model)]
        for layer in layers:
            if reason := _refusal(self._base(layer), held):
                raise ValueError(
                    f"{asks} changes the frozen weights under the adapter, which is not possible in {layer}: {reason}"
                )

    @torch.no_grad()
    def fold(self, changes: Mapping[str, WeightChange]) -> None:
        """Let the weights be the loaded ones plus these changes; those without one are the loaded ones.

        What is folded already costs a comparison.

        Args:
            changes: By the names of peft's layers in the wrapper, on any device.

        Raises:
            ValueError: If there is no such layer, or a shape is not that of its weight. Nothing is changed then.
        """
        self._check(changes)
        lost = total = 0.0
        for layer in {**self.changes, **changes}:
            change = changes.get(layer)
            if change is None:
                weight, _ = self._weight(layer)
                weight.copy_(placed_like(self._loaded[layer], weight))
                self.version += 1
                del self.changes[layer]
            elif not change.same(self.changes.get(layer)):
                rounded, norm = self._add(layer, change)
                lost, total = lost + rounded, total + norm
        if lost > total * _LOST**2 and not self._warned:
            self._warned = True
            _warn_of_rounding((lost / total) ** 0.5)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Within the block the weights are the loaded ones."""
        changes = dict(self.changes)
        self.fold({})
        try:
            yield
        finally:
            self.fold(changes)

    def _add(self, layer: str, change: WeightChange) -> tuple[float, float]:
        """Fold one; the squared norms of what rounding has taken of it, and of itself, where the type is coarse."""
        weight, transposed = self._weight(layer)
        if layer not in self._loaded:
            self._loaded[layer] = _kept(weight)
        wide = torch.float32 if weight.device.type == "mps" else torch.float64
        dense = change.to(weight.device, wide).dense()
        added = placed_like(dense.T.contiguous() if transposed else dense, weight)
        # as the weight's type has it, in which the model may have been put since
        loaded = self._loaded[layer].to(weight.dtype)
        loaded = placed_like(loaded, weight).to(wide)
        weight.copy_(loaded + added)
        self.version += 1
        self.changes[layer] = change
        if not is_narrow(weight.dtype):
            return 0.0, 0.0
        return _squared(weight.to(wide) - loaded - added), _squared(added)

    def _check(self, changes: Mapping[str, WeightChange]) -> None:
        for layer, change in changes.items():
            try:
                weight, transposed = self._weight(layer)
            except AttributeError as error:
                raise ValueError(
                    f"a change of weights is expected to be of layers with adapters, but {layer!r} is none"
                ) from error
            shape = tuple(weight.shape[::-1] if transposed else weight.shape)
            if change.shape != shape:
                raise ValueError(
                    f"the change of {layer} is expected to be of shape {list(shape)}, but is {list(change.shape)}"
                )

    def _base(self, layer: str) -> Any:
        module: Any = self._model.get_submodule(layer)
        return module.get_base_layer()

    def _weight(self, layer: str) -> tuple[Tensor, bool]:
        """The live weight, and whether peft's factors are of its transpose."""
        base = self._base(layer)
        module: Any = self._model.get_submodule(layer)
        transposed = isinstance(base, nn.Embedding) or getattr(module, "fan_in_fan_out", False)
        return base.weight.detach(), transposed


def _refusal(base: Any, held: list[int]) -> str | None:
    """Why the weight of a layer under an adapter cannot be changed."""
    from transformers.pytorch_utils import Conv1D

    if not isinstance(base, nn.Linear | nn.Embedding | Conv1D):
        return f"it is a {type(base).__name__}, expected is a linear layer or an embedding"
    weight = base.weight
    # a quantised one is of a class of its own, which may say that it is of floats
    if type(weight) is not nn.Parameter or not weight.is_floating_point():
        return f"it is quantised, in {weight.dtype} (`model.backbone.quantization` null is not)"
    if held.count(id(weight)) > 1:
        return "its weight is another module's as well, which the adapter leaves as it is"
    return None


def _warn_of_rounding(share: float) -> None:
    from lightning.pytorch.utilities import rank_zero_warn

    rank_zero_warn(
        f"the frozen weights are of a type so coarse that {share:.0%} of what is folded into them (by its norm) is "
        "rounded away; it does not add up over rounds, and `model.backbone.dtype` float32 keeps it"
    )


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or (one.dtype == other.dtype and torch.equal(one, other))


def _squared(tensor: Tensor) -> float:
    return float(whole(tensor.square().sum()))


def _kept(weight: Tensor) -> Tensor:
    """A copy in main memory; of a sharded weight where it is, since each process has a part."""
    return weight.clone() if is_sharded(weight) else weight.to("cpu", copy=True)
