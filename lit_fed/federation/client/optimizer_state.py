"""An optimizer's moments as a payload, for clients that keep them between rounds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_fed.payload import Payload
from lit_fed.shards import placed_like


def optimizer_tensors(optimizer: Optimizer, stage: str, module: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state under the names ``<stage>/<parameter>/<moment>``.

    By the parameter's name, not by its place: in another round others may train.

    Args:
        optimizer: An optimizer whose state holds tensors and numbers, as torch's do.
        stage: The stage it belongs to.
        module: The module whose parameters it moves.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    state = optimizer.state_dict()["state"]
    return {
        f"{stage}/{names[id(parameter)]}/{moment}": torch.as_tensor(value)
        for place, parameter in enumerate(_parameters(optimizer))
        for moment, value in state.get(place, {}).items()
        if value is not None
    }


def load_optimizer_tensors(
    optimizer: Optimizer, stage: str, module: nn.Module, payload: Payload
) -> None:
    """Take back what :func:`optimizer_tensors` gave of the parameters that the optimizer moves.

    Args:
        optimizer: The optimizer.
        stage: The stage it belongs to.
        module: The module whose parameters it moves.
        payload: The moments.
    """
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    places = {names[id(parameter)]: n for n, parameter in enumerate(_parameters(optimizer))}
    live = {names[id(parameter)]: parameter for parameter in _parameters(optimizer)}
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in payload.tensors.items():
        owner, _, rest = name.partition("/")
        parameter, _, moment = rest.rpartition("/")
        if owner == stage and parameter in places:
            kept = tensor.clone()
            if kept.shape == live[parameter].shape:
                kept = placed_like(kept, live[parameter])
            state.setdefault(places[parameter], {})[moment] = kept
    if state:
        optimizer.load_state_dict(
            {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
        )


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
