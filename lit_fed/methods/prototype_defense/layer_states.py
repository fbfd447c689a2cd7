"""Layer states: what chosen layers of a backbone give in a pass, beside its prediction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from lit_fed.backbones import Backbone
from lit_fed.backbones.anatomy import largest_layer_list


@contextmanager
def layer_states(backbone: Backbone, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """Within the block the outputs of layers are kept, [B, L, d] each, with their graphs; those of the last pass.

    Args:
        backbone: The backbone.
        layers: Numbers of layers, from 0. None of them: nothing is done.
    """
    held: dict[int, Tensor] = {}

    def keep(number: int, module: nn.Module, args: Any, output: Any) -> None:
        held[number] = output[0] if isinstance(output, tuple) else output

    with ExitStack() as stack:
        found = largest_layer_list(backbone.model) if layers else []
        for number in layers:
            handle = found[number].register_forward_hook(partial(keep, number))
            stack.callback(handle.remove)
        yield held


def require_layers_of_encoder(layers: Sequence[int], backbone: Backbone, encoder: str) -> None:
    """Refuse layers that the model whose states prototypes are made of has not.

    Args:
        layers: Numbers, from 0.
        backbone: The encoder's.
        encoder: What it is called, for the message.

    Raises:
        ValueError: If one is not there.
    """
    count = len(largest_layer_list(backbone.model))
    if layers and max(layers) >= count:
        raise ValueError(
            f"`model.layers` are expected to be layers of `model.encoder` {encoder} as well, numbers from 0 to "
            f"{count - 1}, but got {list(layers)}"
        )


def require_layers(layers: Sequence[int], backbone: Backbone) -> tuple[int, ...]:
    """Layers that a backbone has, below its last one.

    Args:
        layers: Numbers, from 0.
        backbone: The backbone.

    Raises:
        ValueError: If one is not there, is the last one, whose states are compared in any case, or comes twice.
    """
    count = len(largest_layer_list(backbone.model))
    for layer in layers:
        if not 0 <= layer < count - 1 or layers.count(layer) > 1:
            raise ValueError(
                f"`model.layers` are expected to be different numbers from 0 to {count - 2}, those of the layers below "
                f"the last one, but got {list(layers)}"
            )
    return tuple(layers)
