"""A client's own view of the resident backbone: its own adapters, no model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NoReturn

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor, nn

from lit_fed.backbones import Backbone, Prediction
from lit_fed.backbones.folding import WeightChange
from lit_fed.federation.execution.vectorized.vectorizable import GENERATE, CannotVectorize

Ask = Callable[[Any], Any]
_IMMUTABLE: Final = (type(None), bool, int, float, str, torch.dtype, torch.device)
SWITCHES: Final = (
    "_active_adapter",
    "active_adapter",
    "_disable_adapters",
    "_adapters_disabled",
)
"""Attributes of peft's modules which say which adapters take part."""


@dataclass(frozen=True)
class ForwardRequest:
    """A forward pass that a client waits for.

    Attributes:
        view: The backbone as the client sees it.
        batch: The client's batch.
        output_hidden: Whether the last hidden state is wanted.
        grad: Whether the client records a gradient.
        autocast: Whether it computes in mixed precision, and in which dtype.
        default_dtype: Of tensors that are made.
    """

    view: ClientView
    batch: Mapping[str, Tensor]
    output_hidden: bool
    grad: bool
    autocast: tuple[bool, torch.dtype]
    default_dtype: torch.dtype

    @cached_property
    def modes(self) -> tuple[Any, ...]:
        """Which modules of the model train and which adapters take part."""
        return self.view.training_flags(), self.view.switches()

    @cached_property
    def trained(self) -> bytes:
        """Which of the client's parameters get a gradient; empty if none does."""
        return self.view.trained() if self.grad else b""

    @cached_property
    def kind(self) -> tuple[Any, ...]:
        """What has to be the same for passes to be computed together."""
        fields = tuple(sorted((name, value.dim()) for name, value in self.batch.items()))
        settings = self.output_hidden, self.grad, self.autocast, self.default_dtype
        return (id(self.view.resident), settings, fields, self.modes, self.trained)


@dataclass(frozen=True)
class BackwardRequest:
    """Backward passes that a client waits for.

    Attributes:
        losses: Of one graph.
        gradient: Makes the client's gradient that of one of them, by its number. None: there is one.
    """

    losses: tuple[Tensor, ...]
    gradient: Callable[[int], AbstractContextManager[None]] | None = None


@dataclass(frozen=True)
class GradientRequest:
    """The gradients of a loss that a client waits for, before its backward pass.

    Attributes:
        loss: A scalar.
        own: The client's parameters of the backbones, which are parts of the stacked ones, in their order; or none.
        others: The client's parameters outside the backbones, or other leaves of the client's own.
    """

    loss: Tensor
    own: list[nn.Parameter]
    others: list[Tensor]


@dataclass(frozen=True)
class StepRequest:
    """An optimizer step that a client waits for."""

    optimizer: Any


class ClientView:
    """What a client's copy of the backbone and the resident one have to do with one another.

    Args:
        client: The client's number.
        resident: The backbone that computes.
        facade: The client's copy, whose frozen parameters are the resident's.
        leaves: The places of parameters that are the client's own, as (number of the module,
            name in it), in the order of the stacked ones.
    """

    def __init__(
        self, client: int, resident: Backbone, facade: Backbone, leaves: list[tuple[int, str]]
    ) -> None:
        self.client = client
        self.resident = resident
        self.modules = list(facade.modules())
        self.parameters: list[nn.Parameter] = [
            getattr(self.modules[number], name) for number, name in leaves
        ]
        self._held = [
            (module, name, parameter)
            for module in self.modules
            for name, parameter in module._parameters.items()
        ]
        self.switched = switched(self.modules)
        self._names = {id(module): name for name, module in facade.named_modules()}
        self._base = resident._folding.version

    def folded(self) -> None:
        """Note that what is folded into the shared weights now is what the client has asked for."""
        self._base = self.resident._folding.version

    def require_own_base(self) -> None:
        """Refuse clients that train on different weights.

        Raises:
            CannotVectorize: If another client has folded something else into the shared ones.
        """
        if self._base != self.resident._folding.version:
            self._refuse("clients whose frozen weights differ")

    def training_flags(self) -> bytes:
        """Which modules are in training mode."""
        return bytes([module.training for module in self.modules])

    def switches(self) -> tuple[Any, ...]:
        """Which adapters take part."""
        return tuple([state for module in self.switched for state in switch_of(module)])

    def trained(self) -> bytes:
        """Which of the client's parameters require a gradient."""
        return bytes([parameter.requires_grad for parameter in self.parameters])

    def hooked(self) -> dict[int, nn.Module]:
        """The modules whose output the client changes, by their numbers.

        Raises:
            CannotVectorize: If the client changes the model in another way.
        """
        found = {}
        for number, module in enumerate(self.modules):
            if module._forward_hooks:
                found[number] = module
            if module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
                self._refuse(f"hooks other than on the output of {self._names[id(module)]}")
            if module.__dict__.get("merged_adapters"):
                self._refuse(f"an adapter merged into {self._names[id(module)]}")
        for module, name, parameter in self._held:
            if module._parameters.get(name) is not parameter:
                self._refuse(f"a change of the weights of {self._names[id(module)]} for one pass")
        return found

    @staticmethod
    def _refuse(what: str) -> NoReturn:
        raise CannotVectorize(what)


def switched(modules: list[nn.Module]) -> list[nn.Module]:
    """The modules in which adapters are switched on and off."""
    from peft import PeftModel

    kinds = (BaseTunerLayer, AuxiliaryTrainingWrapper, PeftModel)
    return [module for module in modules if isinstance(module, kinds)]


def switch_of(module: nn.Module) -> tuple[Any, ...]:
    """Which adapters take part in a module."""
    state = module.__dict__
    active = state.get("_active_adapter", state.get("active_adapter"))
    if isinstance(active, list):
        active = tuple(active)
    return active, state.get("_disable_adapters"), state.get("_adapters_disabled")


def set_switch(module: nn.Module, like: nn.Module) -> None:
    """Let the same adapters take part in a module as in another."""
    for name in SWITCHES:
        if name in like.__dict__:
            module.__dict__[name] = like.__dict__[name]


class _Asking:
    """The part of a client's backbone that asks for passes instead of computing them."""

    ask: Ask
    view: ClientView

    def forward(self, batch: Mapping[str, Tensor], output_hidden: bool = False) -> Prediction:
        """Wait for the pass; see :class:`~lit_fed.backbones.Backbone`."""
        device = next(iter(batch.values())).device.type
        autocast = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
        grad = torch.is_grad_enabled()
        tensors = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
        request = ForwardRequest(
            self.view, tensors, bool(output_hidden), grad, autocast, torch.get_default_dtype()
        )
        prediction: Prediction = self.ask(request)
        return prediction

    def generate(self, *args: Any, **settings: Any) -> NoReturn:
        """Not possible: continuations grow one token at a time, each client's its own."""
        raise CannotVectorize(GENERATE)

    def fold(self, changes: Mapping[str, WeightChange]) -> None:
        """Fold into the resident's weights, which all clients share; see :class:`~lit_fed.backbones.Backbone`."""
        Backbone.fold(self, changes)  # type: ignore[arg-type]  # the class below is one
        self.view.folded()

    def unfolded(self) -> AbstractContextManager[None]:
        """Not possible where something is folded, since the others may be training on it."""
        if self.view.resident.folded:
            raise CannotVectorize("passes on frozen weights without what is folded into them")
        return nullcontext()

    def to(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not possible: the resident model is shared."""
        raise CannotVectorize(
            "`model.take_turns`, or whatever else moves backbones between devices,"
        )

    def add_adapter(self, name: str, config: Any = None, head: bool = True) -> NoReturn:
        """Not possible: the resident model is shared."""
        raise CannotVectorize(f"adding adapter {name!r} while clients train")


def _copied_state(module: nn.Module, memo: dict[int, Any]) -> dict[str, Any]:
    """A module's attributes for its copy, a hundred times faster than ``copy.deepcopy`` of it.

    Hooks are left out: what hangs on the resident model for good acts there.
    """
    state: dict[str, Any] = {}
    for name, value in module.__dict__.items():
        if name in ("_parameters", "_buffers", "_modules"):
            state[name] = {
                key: None if held is None else memo[id(held)] for key, held in value.items()
            }
        elif name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called")):
            state[name] = type(value)()
        elif isinstance(value, _IMMUTABLE):
            state[name] = value
        else:
            state[name] = copy.deepcopy(value, memo)
    return state


def client_backbone(
    resident: Backbone, own: dict[int, nn.Parameter], memo: dict[int, Any]
) -> Backbone:
    """A copy of a backbone's modules for one client, which holds the resident's frozen parameters.

    It is a backbone of the same class: adapters are switched, loaded and listed as ever, and a method
    finds and hooks its modules. Only its passes are computed elsewhere.

    Args:
        resident: The backbone that computes.
        own: The client's own parameters, by the ids of the resident's.
        memo: Of :func:`copy.deepcopy`; what is in it is shared, and the copies are noted in it.
    """
    memo[id(resident.tokenizer)] = resident.tokenizer
    memo[id(resident._folding)] = resident._folding  # of the frozen weights, which all share
    for parameter in resident.parameters():
        memo[id(parameter)] = own.get(id(parameter), parameter)
    for buffer in resident.buffers():
        memo[id(buffer)] = buffer
    modules = list(resident.modules())
    for module in modules:
        memo[id(module)] = module.__class__.__new__(module.__class__)
        for name in ("config", "generation_config"):
            if name in module.__dict__:
                memo[id(module.__dict__[name])] = module.__dict__[name]
    for module in modules:
        memo[id(module)].__dict__.update(_copied_state(module, memo))
    facade: Backbone = memo[id(resident)]
    kind = type(resident)
    facade.__class__ = type(f"Client{kind.__name__}", (_Asking, kind), {})
    return facade
