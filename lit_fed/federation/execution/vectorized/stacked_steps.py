"""Optimizer steps of several clients as one step on their stacked parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

ELEMENTWISE: Final = (SGD, Adam, AdamW, RMSprop)
"""Optimizers that treat every number alike, wherever it stands."""

Leaf = tuple[int, int]


class StackedSteps:
    """Lets clients' optimizers step together where that comes to the same.

    It does if they are of the same elementwise kind, have the same settings, among them the learning
    rate, have taken the same number of steps and train the same parameters. Otherwise each steps by
    itself. Each client's optimizer has its own state all the time: views of the stacked one.

    Args:
        stacks: The stacked parameters, [n, …], of each backbone.
        own: Of each client the parameters that are views of these, likewise.
    """

    def __init__(
        self, stacks: Sequence[Sequence[Tensor]], own: Sequence[Sequence[Sequence[Tensor]]]
    ) -> None:
        self._stacks = stacks
        self._leaves: list[dict[int, Leaf]] = [
            {
                id(parameter): (model, number)
                for model, parameters in enumerate(models)
                for number, parameter in enumerate(parameters)
            }
            for models in own
        ]
        self._stepping: tuple[Optimizer, ...] = ()
        self._stacked_optimizer: Optimizer | None = None

    def step(self, optimizers: Mapping[int, Any]) -> None:
        """Let the optimizers of some clients step.

        Args:
            optimizers: Fabric's, by the clients' numbers.
        """
        clients = sorted(optimizers)
        plain: tuple[Any, ...] = tuple(optimizers[client].optimizer for client in clients)
        if not self._is_alike(clients, plain, [optimizers[client] for client in clients]):
            self.release()
            for client in clients:
                optimizers[client].step()
            return
        if plain != self._stepping:
            self.release()
            if not _have_alike_states(plain):
                for client in clients:
                    optimizers[client].step()
                return
            self._stacked_optimizer = self._stacked(clients, plain)
            self._stepping = plain
        self._step_together(plain)

    def release(self) -> None:
        """Give each client's optimizer a count of steps of its own again."""
        for optimizer in self._stepping:
            for state in optimizer.state.values():
                for name, value in state.items():
                    if isinstance(value, Tensor) and not value.dim():
                        state[name] = value.clone()
        self._stepping, self._stacked_optimizer = (), None

    def _is_alike(
        self, clients: Sequence[int], plain: Sequence[Any], wrapped: Sequence[Any]
    ) -> bool:
        first = plain[0]
        whole = list(clients) == list(range(clients[0], clients[0] + len(clients)))
        if len(clients) < 2 or not whole or type(first) not in ELEMENTWISE:
            return False
        if any(
            type(one) is not type(first)
            or one._optimizer_step_pre_hooks
            or one._optimizer_step_post_hooks
            for one in plain
        ):
            return False
        if any(hasattr(c, "on_after_optimizer_step") for one in wrapped for c in one._callbacks):
            return False
        settings = _settings(first)
        tensors = any(isinstance(v, Tensor) for group in settings for v in group.values())
        if tensors or any(_settings(one) != settings for one in plain[1:]):
            return False
        shape = self._trained(clients[0], first)
        return shape is not None and all(
            self._trained(client, one) == shape
            for client, one in zip(clients[1:], plain[1:], strict=True)
        )

    def _trained(self, client: int, optimizer: Any) -> list[list[tuple[Leaf, bool]]] | None:
        """Which parameters it has, and which have a gradient; None if one is not stacked."""
        leaves = self._leaves[client]
        found = []
        for group in optimizer.param_groups:
            if any(id(parameter) not in leaves for parameter in group["params"]):
                return None
            found.append([(leaves[id(p)], p.grad is None) for p in group["params"]])
        return found

    def _stacked(self, clients: Sequence[int], plain: Sequence[Any]) -> Optimizer:
        """One optimizer of the stacked parameters, with the clients' states."""
        groups, leaves = [], self._leaves[clients[0]]
        for group in plain[0].param_groups:
            parameters = []
            for parameter in group["params"]:
                model, number = leaves[id(parameter)]
                stack = self._stacks[model][number].detach()
                parameters.append(stack[clients[0] : clients[0] + len(clients)].requires_grad_())
            groups.append({**group, "params": parameters})
        stacked: Optimizer = type(plain[0])(groups)
        for whole, own in _pairs(stacked, plain):
            states = [one.state[p] for one, p in zip(plain, own, strict=True) if p in one.state]
            if states:
                stacked.state[whole] = {
                    name: torch.stack([state[name] for state in states])
                    if isinstance(value, Tensor) and value.dim()
                    else (value.clone() if isinstance(value, Tensor) else value)
                    for name, value in states[0].items()
                }
                _share(stacked.state[whole], whole, plain, own)
        return stacked

    def _step_together(self, plain: Sequence[Any]) -> None:
        stacked = self._stacked_optimizer
        if stacked is None:
            raise RuntimeError("stacked optimizers are expected before a step")
        for group, like in zip(stacked.param_groups, plain[0].param_groups, strict=True):
            group.update({name: value for name, value in like.items() if name != "params"})
        new = []
        for whole, own in _pairs(stacked, plain):
            gradients = [p.grad for p in own if p.grad is not None]
            whole.grad = _as_one(gradients) if gradients else None
            if gradients and whole not in stacked.state:
                new.append((whole, own))
        stacked.step()
        for whole, own in new:
            _share(stacked.state[whole], whole, plain, own)
        for whole, _ in _pairs(stacked, plain):
            whole.grad = None
        for one in plain:
            one._opt_called = True  # schedules ask for it


def _settings(optimizer: Any) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in group.items() if name != "params"}
        for group in optimizer.param_groups
    ]


def _pairs(stacked: Optimizer, plain: Sequence[Any]) -> list[tuple[Tensor, list[Tensor]]]:
    """Each stacked parameter with the clients' own."""
    return [
        (whole, [one.param_groups[number]["params"][place] for one in plain])
        for number, group in enumerate(stacked.param_groups)
        for place, whole in enumerate(group["params"])
    ]


def _share(
    state: Mapping[str, Any], whole: Tensor, plain: Sequence[Any], own: Sequence[Tensor]
) -> None:
    """Let the clients' states be views of the stacked one."""
    for place, (one, parameter) in enumerate(zip(plain, own, strict=True)):
        for name, value in state.items():
            stacked = isinstance(value, Tensor) and value.shape == whole.shape
            one.state[parameter][name] = value[place] if stacked else value


def _have_alike_states(plain: Sequence[Any]) -> bool:
    """Whether all have the same moments, and the same counts of steps."""
    first = plain[0]
    for number, group in enumerate(first.param_groups):
        for place, parameter in enumerate(group["params"]):
            like = first.state.get(parameter, {})
            for other in plain[1:]:
                state = other.state.get(other.param_groups[number]["params"][place], {})
                if state.keys() != like.keys():
                    return False
                for name, value in like.items():
                    counts = not isinstance(value, Tensor) or not value.dim()
                    if counts and value != state[name]:
                        return False
                    if not counts and value.shape != parameter.shape:
                        return False
    return True


def _as_one(gradients: Sequence[Tensor]) -> Tensor:
    """The gradients as one tensor, without a copy where they are parts of one."""
    first = gradients[0]
    storage, offset = first.untyped_storage().data_ptr(), first.storage_offset()
    apart = first.numel()
    if all(
        g.untyped_storage().data_ptr() == storage
        and g.stride() == first.stride()
        and g.storage_offset() == offset + place * apart
        for place, g in enumerate(gradients)
    ):
        shape, strides = (len(gradients), *first.shape), (apart, *first.stride())
        return first.as_strided(shape, strides, offset)
    return torch.stack(list(gradients))
