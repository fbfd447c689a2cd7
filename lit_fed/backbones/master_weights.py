"""Master weights: what trains is kept in float32, also on a base of 16 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

Change = Callable[[Tensor], Tensor]


def is_narrow(dtype: torch.dtype) -> bool:
    """Whether a type is of fewer bits than float32, so that it cannot hold an optimizer's steps.

    At a learning rate of 2e-5 a step of Adam is below what bfloat16 can add to a weight of 0.01.

    Example:
        >>> is_narrow(torch.bfloat16), is_narrow(torch.float64)
        (True, False)
    """
    return dtype.is_floating_point and dtype.itemsize < torch.float32.itemsize


def widen(model: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    """Replace parameters of 16 bits by the same values in float32, wherever a model has them.

    Args:
        model: The model, which is changed.
        parameters: Of the model; one that is tied stays tied.
    """
    wide = {
        id(p): nn.Parameter(p.detach().float(), p.requires_grad)
        for p in parameters
        if is_narrow(p.dtype)
    }
    if not wide:
        return
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if id(parameter) in wide:
                module._parameters[name] = wide[id(parameter)]


def widening(change: Change, masters: Iterable[Tensor]) -> Change:
    """A change of a module's tensors, such as ``module.to``'s, that leaves some in at least float32.

    Args:
        change: Gives a tensor on another device or of another type.
        masters: The tensors that stay wide; their gradients do as well.
    """
    # held, so that no other tensor gets the address of one of them
    held = [t for p in masters for t in (p, p.grad) if t is not None and not is_narrow(t.dtype)]
    known = {id(tensor) for tensor in held}

    def changed(tensor: Tensor) -> Tensor:
        result = change(tensor)
        if id(tensor) in known and is_narrow(result.dtype):
            return tensor.to(result.device)
        return result

    return changed


class CastIn:
    """A hook before a trained copy of one of the model's modules: its input in the type of its own weights.

    Args:
        original: The module that it is a copy of, which has the type of the model's weights.
    """

    def __init__(self, original: nn.Module) -> None:
        self.original = original

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        """Cast what comes in, if the model computes in another type."""
        own = _type(module)
        return None if own == _type(self.original) else _cast((args, kwargs), own)


class CastOut:
    """A hook after a trained copy of one of the model's modules: its output in the type of the model.

    Args:
        original: As for :class:`CastIn`.
    """

    def __init__(self, original: nn.Module) -> None:
        self.original = original

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Cast what goes out, if the model computes in another type."""
        model = _type(self.original)
        return None if _type(module) == model else _cast(output, model)


def cast_around_copies(model: nn.Module, adapter: str) -> None:
    """Let an adapter's copies of the model's own modules compute in float32 on a model of 16 bits.

    peft's adapters cast for themselves. Its copies do not: ``modules_to_save``, such as a classifier's head,
    and the norms of ``LNTuningConfig``.

    Args:
        model: A model in peft's wrapper.
        adapter: The adapter's name, whose copies have no such hooks yet.
    """
    for copy, original in _copies(model, adapter):
        copy.register_forward_pre_hook(CastIn(original), with_kwargs=True)
        copy.register_forward_hook(CastOut(original))


def require_wide(trained: Mapping[str, Tensor], setting: str = "model.backbone") -> None:
    """Raise where the weights that train cannot hold an optimizer's steps.

    Args:
        trained: The parameters that an optimizer gets, by name.
        setting: What names the model, for messages.

    Raises:
        ValueError: Naming the first one, and what to set.

    Example:
        >>> require_wide({"w": torch.ones(1)})
    """
    narrow = [name for name, parameter in trained.items() if is_narrow(parameter.dtype)]
    if narrow:
        kind = str(trained[narrow[0]].dtype).removeprefix("torch.")
        raise ValueError(
            f"`{setting}.dtype` float32 and `trainer.precision` bf16-mixed are expected where all weights of a "
            f"model train (`{setting}.peft` is null), but {narrow[0]} would train in {kind}, which is too coarse "
            f"for most of an optimizer's steps"
        )


def _copies(model: nn.Module, adapter: str) -> Iterator[tuple[nn.Module, nn.Module]]:
    from peft.tuners.ln_tuning.layer import LNTuningLayer
    from peft.utils.other import ModulesToSaveWrapper

    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper) and adapter in module.modules_to_save:
            yield module.modules_to_save[adapter], module.original_module
        if isinstance(module, LNTuningLayer) and adapter in module.ln_tuning_layers:
            yield module.ln_tuning_layers[adapter], module.base_layer


def _type(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def _cast(data: Any, dtype: torch.dtype) -> Any:
    def cast(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.is_floating_point() else tensor

    return apply_to_collection(data, Tensor, cast)
