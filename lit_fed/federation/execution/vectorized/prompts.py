"""Prompts that each client learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lit_fed.federation.execution.vectorized.vectorizable import CannotVectorize


def vectorized_prompts(
    model: Any, numbers: Mapping[int, int], leaves: Callable[[Sequence[int]], list[Tensor]]
) -> Callable[..., Any]:
    """What takes the place of peft's ``get_prompt``: the prompts of each client, for its rows.

    Args:
        model: A model of peft's with prompts.
        numbers: Numbers of the clients' own parameters, by the ids of the model's.
        leaves: Gives these parameters of all clients of the pass, [K, …] each.
    """
    held = {
        adapter: [
            (module, name, numbers[id(parameter)])
            for module in encoder.modules()
            for name, parameter in module._parameters.items()
            if parameter is not None and id(parameter) in numbers
        ]
        for adapter, encoder in model.prompt_encoder.items()
    }
    alone = model.get_prompt

    def prompts(batch_size: int, *args: Any, **kwargs: Any) -> Any:
        places: list[tuple[nn.Module, str, int]] = held[model.active_adapter]
        stacked = leaves([number for _, _, number in places])
        count = len(stacked[0])
        before = [module._parameters[name] for module, name, _ in places]
        found = []
        try:
            for own in zip(*(leaf.unbind(0) for leaf in stacked), strict=True):
                for (module, name, _), value in zip(places, own, strict=True):
                    module._parameters[name] = value
                found.append(alone(batch_size // count, *args, **kwargs))
        finally:
            for (module, name, _), value in zip(places, before, strict=True):
                module._parameters[name] = value
        return _together(found)

    return prompts


def _together(prompts: list[Any]) -> Any:
    first = prompts[0]
    if isinstance(first, Tensor):
        return torch.cat(prompts)
    layers = [getattr(one, "layers", None) for one in prompts]
    if not layers[0]:
        raise CannotVectorize(f"prompts of the type {type(first).__name__}")
    for alike in zip(*layers, strict=True):
        alike[0].keys = torch.cat([layer.keys for layer in alike])
        alike[0].values = torch.cat([layer.values for layer in alike])
    return first
