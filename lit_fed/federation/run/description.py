"""What an object was made with, as a flat table of values that JSON takes."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from lit_fed.backbones import Backbone

Description = dict[str, Any]
"""Names in dots, such as ``model.aggregation.lr``, and plain values or lists of them."""

_PLAIN = (bool, int, float, str, type(None))
_FOREIGN = ("torch", "lightning", "transformers", "peft", "builtins")


def described(name: str, value: Any, leave_out: frozenset[str] = frozenset()) -> Description:
    """Describe a value: a plain one by itself, an object by its class and what it was made with.

    What an object was made with is read from its attributes, by the convention that an argument ``x`` of a
    constructor becomes the attribute ``x``. If some argument has no such attribute, all other public
    attributes are taken as well. A function is known by its name alone: what it does and what it has
    enclosed cannot be told. Learnt parameters are known by their shapes.

    Args:
        name: What it is called.
        value: The value.
        leave_out: Arguments and attributes of the object that are not taken.

    Example:
        >>> from lit_fed.aggregation import FedAvgM
        >>> described("rule", FedAvgM(momentum=0.5))["rule.momentum"]
        0.5
        >>> described("rule", partial(sorted, reverse=True))
        {'rule': 'sorted', 'rule.reverse': True}
    """
    return dict(_leaves(name, value, leave_out, set()))


def described_optimizer(
    name: str, make: Callable[[Any], Optimizer], parameters: Any
) -> Description:
    """Describe what makes an optimizer by the optimizer that it makes: its class and hyperparameters.

    Args:
        name: What it is called.
        make: Makes the optimizer, be it a class, a partial or a lambda.
        parameters: What it is made for.

    Example:
        >>> weights = [nn.Parameter(torch.zeros(2))]
        >>> described_optimizer("o", lambda ps: torch.optim.SGD(ps, lr=0.5), weights)["o.lr"]
        0.5
    """
    return dict(_optimizer(name, make(parameters)))


def _leaves(
    name: str, value: Any, leave_out: frozenset[str], above: set[int]
) -> list[tuple[str, Any]]:
    if isinstance(value, _PLAIN):
        return [(name, value)]
    if isinstance(value, (Enum, PurePath, torch.dtype, torch.device, np.generic)):
        return [(name, value.item() if isinstance(value, np.generic) else str(value))]
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return [(name, _array(value))]
    if isinstance(value, Optimizer):
        return _optimizer(name, value)
    if isinstance(value, type) or inspect.isroutine(value):
        return [(name, value.__qualname__)]
    if id(value) in above:
        return []  # it refers to what it is a part of
    above = above | {id(value)}
    if isinstance(value, partial):
        given: dict[Any, Any] = dict(enumerate(value.args)) | value.keywords
        return _leaves(name, value.func, frozenset(), above) + _entries(name, given, above)
    if isinstance(value, Mapping):
        return [(name, f"{len(value)} entries"), *_entries(name, value, above)]
    if isinstance(value, (set, frozenset)):
        return [(name, sorted(map(str, value)))]
    if isinstance(value, Sequence):
        if all(isinstance(one, _PLAIN) for one in value):
            return [(name, list(value))]
        return [(name, f"{len(value)} entries"), *_entries(name, dict(enumerate(value)), above)]
    leaves = [(name, type(value).__qualname__)]
    if isinstance(value, Backbone):
        given = value.identity
    elif type(value).__module__.partition(".")[0] in _FOREIGN:
        return leaves + _foreign(name, value)
    else:
        given = made_with(value, leave_out)
    return leaves + _entries(name, given, above)


def made_with(value: Any, leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The arguments of an object's constructor, as far as its attributes tell; see :func:`described`.

    Args:
        value: The object.
        leave_out: Arguments and attributes that are not taken.
    """
    if is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in fields(value) if one.init}
    arguments: dict[str, Any] = {}
    told = True
    for name in constructor_arguments(type(value)):
        if name in leave_out:
            continue
        for attribute in (name, f"_{name}"):
            held = getattr(value, attribute, None) if attribute in _attributes(value) else value
            if held is not value:
                arguments[name] = held
                break
        else:
            told = False
    if told:
        return arguments
    public = {
        k: v
        for k, v in _attributes(value).items()
        if not k.startswith("_") and k != "training" and k not in leave_out
    }
    return {**public, **arguments}


def constructor_arguments(kind: type) -> list[str]:
    """Names of all arguments that a class and its bases take, except those of foreign bases."""
    names: dict[str, None] = {}
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in _FOREIGN or "__init__" not in vars(base):
            continue
        for parameter in list(inspect.signature(base).parameters.values()):
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                names[parameter.name] = None
    return list(names)


def _attributes(value: Any) -> dict[str, Any]:
    held = dict(getattr(value, "__dict__", {}))
    if isinstance(value, nn.Module):
        held |= value._modules | value._parameters
    return held


def _entries(name: str, values: Mapping[Any, Any], above: set[int]) -> list[tuple[str, Any]]:
    return [
        leaf for k, v in values.items() for leaf in _leaves(f"{name}.{k}", v, frozenset(), above)
    ]


def _optimizer(name: str, optimizer: Optimizer) -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = [(name, type(optimizer).__qualname__)]
    groups = optimizer.param_groups
    for number, group in enumerate(groups):
        one = name if len(groups) == 1 else f"{name}.{number}"
        # what is None or false is what another version of torch may have left out
        hyper = {
            k: v
            for k, v in group.items()
            if k not in ("params", "initial_lr") and v is not None and v is not False
        }
        leaves += _entries(one, hyper, set())
    return leaves


def _foreign(name: str, value: Any) -> list[tuple[str, Any]]:
    """Of a class that is not ours: of a module its parameters' number, of anything else nothing more."""
    if isinstance(value, nn.Module):
        return [(f"{name} parameters", sum(p.numel() for p in value.parameters()))]
    return []


def _array(value: torch.Tensor | np.ndarray[Any, Any]) -> str:
    shape = list(value.shape)
    if isinstance(value, nn.Parameter):
        return f"parameter {shape}"
    array = value.detach().cpu().float().numpy() if isinstance(value, torch.Tensor) else value
    return f"{shape}, {hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest()}"
