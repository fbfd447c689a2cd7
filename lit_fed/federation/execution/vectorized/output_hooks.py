"""Hooks that clients have on modules of their copies, in a vectorized pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lit_fed.federation.execution.vectorized.vectorizable import CannotVectorize

if TYPE_CHECKING:
    from lit_fed.federation.execution.vectorized.batch_layout import BatchLayout
    from lit_fed.federation.execution.vectorized.client_backbone import ClientView


def output_hook(
    layout: Callable[[], BatchLayout], views: Sequence[ClientView], number: int
) -> Callable[..., Any]:
    """A hook of a resident module that calls each client's hooks with its own part of the output.

    Args:
        layout: The clients of the part that runs at the moment.
        views: The views of the clients of the whole pass.
        number: The module's number.
    """
    owners = {view.client: view for view in views}

    def hook(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> Any:
        at_hand = layout()
        name = type(module).__name__
        inputs = _split(at_hand, args, name)
        named = _split(at_hand, kwargs, name)
        outputs = _split(at_hand, output, name)
        changed = []
        for place, client in enumerate(at_hand.clients):
            own = owners[client].modules[number]
            result = outputs[place]
            for key, each in list(own._forward_hooks.items()):
                more = (named[place],) if key in own._forward_hooks_with_kwargs else ()
                new = each(own, inputs[place], *more, result)
                result = result if new is None else new
            changed.append(result)
        return _join(at_hand, changed, output, name)

    return hook


def _split(layout: BatchLayout, value: Any, name: str) -> list[Any]:
    count = len(layout.clients)
    if isinstance(value, Tensor) and value.dim() > 1:
        return list(layout.split(value, name))
    if isinstance(value, tuple | list):
        parts = [_split(layout, one, name) for one in value]
        return [type(value)(part[place] for part in parts) for place in range(count)]
    if isinstance(value, dict):
        split = {key: _split(layout, one, name) for key, one in value.items()}
        return [{key: part[place] for key, part in split.items()} for place in range(count)]
    return [value] * count


def _join(layout: BatchLayout, parts: list[Any], like: Any, name: str) -> Any:
    if isinstance(like, Tensor) and like.dim() > 1:
        return layout.join(parts, like)
    if isinstance(like, tuple | list):
        return type(like)(
            _join(layout, [part[i] for part in parts], one, name) for i, one in enumerate(like)
        )
    if all(part is like for part in parts):
        return like
    raise CannotVectorize(f"a change of the output of {name}, which is no tensor of rows,")
