"""An optimizer's moments as a payload, for clients that keep them between rounds."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from lit_fed.payload import Payload
from lit_fed.shards import placed_like


def optimizer_tensors(optimizer: Optimizer, stage: str) -> dict[str, torch.Tensor]:
    """The optimizer's state under the names ``<stage>/<parameter>/<moment>``.

    Args:
        optimizer: An optimizer whose state holds tensors and numbers, as torch's do.
        stage: The stage it belongs to.
    """
    state = optimizer.state_dict()["state"]
    return {
        f"{stage}/{parameter}/{moment}": torch.as_tensor(value)
        for parameter, moments in state.items()
        for moment, value in moments.items()
        if value is not None
    }


def load_optimizer_tensors(optimizer: Optimizer, stage: str, payload: Payload) -> None:
    """Take back what :func:`optimizer_tensors` gave; nothing happens if ``payload`` holds no such stage."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for name, tensor in payload.tensors.items():
        owner, parameter, moment = name.rsplit("/", 2)
        if owner == stage:
            live = parameters[int(parameter)]
            kept = tensor.clone()
            if kept.shape == live.shape:
                kept = placed_like(kept, live)
            state.setdefault(int(parameter), {})[moment] = kept
    if state:
        optimizer.load_state_dict(
            {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
        )
