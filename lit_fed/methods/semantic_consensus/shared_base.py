"""Shared base: frozen weights that several backbones have alike are in memory once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from lit_fed.backbones import Backbone


def share_base(backbones: Sequence[Backbone]) -> int:
    """Let backbones of the same pretrained model hold the same frozen parameters, whatever adapter each has.

    Parameters are compared by their names in the pretrained model and by their values. What trains stays each one's
    own.

    Args:
        backbones: The backbones, which may be the same object.

    Returns:
        How many numbers are held once less.
    """
    known: dict[str, list[nn.Parameter]] = {}
    saved = 0
    for backbone in dict.fromkeys(backbones):
        for name, module, leaf in _frozen(backbone):
            own = module._parameters[leaf]
            alike = known.setdefault(name, [])
            found = next((one for one in alike if own is not None and _same(one, own)), None)
            if found is None and own is not None:
                alike.append(own)
            elif found is not None and own is not None and found is not own:
                module._parameters[leaf] = found
                saved += own.numel()
    return saved


def have_one_body(one: Backbone, other: Backbone) -> bool:
    """Whether two backbones with adapters have the same frozen weights below their heads, whatever is trained.

    Args:
        one: A backbone.
        other: The other one.
    """
    own, others = (
        {name: module._parameters[leaf] for name, module, leaf in _frozen(backbone, body=True)}
        for backbone in (one, other)
    )
    return own.keys() == others.keys() and all(
        _same(own[name], others[name])  # type: ignore[arg-type]  # those that are frozen are there
        for name in own
    )


def _frozen(backbone: Backbone, body: bool = False) -> Iterator[tuple[str, nn.Module, str]]:
    """Frozen parameters: the name in the pretrained model, the module that holds it, the name there."""
    adapters = {id(p) for name in backbone.adapters for p in backbone.trainable(name).values()}
    model = backbone.model.get_base_model().base_model if body else backbone.model
    for place, module in model.named_modules():
        parts = [p for p in place.split(".") if p not in ("base_model", "model", "base_layer")]
        for leaf, parameter in module._parameters.items():
            if parameter is None or parameter.requires_grad or id(parameter) in adapters:
                continue
            yield ".".join([*parts, leaf]), module, leaf


def _same(one: nn.Parameter, other: nn.Parameter) -> bool:
    alike = one.shape == other.shape and one.dtype == other.dtype and one.device == other.device
    return one is other or (alike and torch.equal(one, other))
