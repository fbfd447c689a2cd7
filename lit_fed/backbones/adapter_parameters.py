"""Adapter parameters: which ones the file of an adapter holds, and where they are in the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from torch import Tensor, nn

if TYPE_CHECKING:
    from peft import PeftModel

# The module that holds a parameter, and its name there. Places rather than parameters are kept, since
# a sharded or vectorised model replaces its parameters by others.
Place = tuple[nn.Module, str]

LORA_FACTORS: Final = (
    (".lora_A.weight", ".lora_B.weight"),
    (".lora_embedding_A", ".lora_embedding_B"),
)
"""What peft calls LoRA's two factors after the layer's name, in a linear layer and in an embedding."""


def held_places(model: nn.Module) -> list[Place]:
    """The places of all parameters and buffers of a model; tied ones as often as they are held."""
    return [
        (module, name)
        for module in model.modules()
        for held in (module._parameters, module._buffers)
        for name, tensor in held.items()
        if tensor is not None
    ]


def all_places(model: nn.Module) -> dict[str, Place]:
    """The places of all parameters of a model, by their names. Tied ones once."""
    modules = dict(model.named_modules())
    names = (name.rpartition(".") for name, _ in model.named_parameters())
    return {f"{m}.{p}" if m else p: (modules[m], p) for m, _, p in names}


def adapter_places(model: PeftModel, adapter: str) -> dict[str, Place]:
    """The places of an adapter's parameters, by their names in the adapter's file.

    What such a file holds beside parameters (random projections that never change) is left out. The
    virtual tokens of prompt and prefix tuning are ``prompt_embeddings``. Where these are computed by
    a network (p-tuning, ``prefix_projection``) the file holds its result, which cannot be trained:
    then the names are those of the network's parameters, ``prompt_encoder.…``.

    Args:
        model: A model with adapters.
        adapter: The name of one.
    """
    from peft import get_peft_model_state_dict

    found = {id(getattr(*place)): place for place in all_places(model).values()}
    saved: dict[str, Tensor] = get_peft_model_state_dict(
        model,
        # Live parameters, of which peft chooses and names those it would save.
        state_dict=model.state_dict(keep_vars=True),
        adapter_name=adapter,
        save_embedding_layers=False,
    )
    places = {
        name: found[id(value)]
        for name, value in saved.items()
        if id(value) in found and value.is_floating_point()
    }
    if model.peft_config[adapter].is_prompt_learning:
        encoder = model.prompt_encoder[adapter]
        inside = all_places(encoder)
        # An embedding without a network is the tensor that is saved.
        if list(inside) == ["embedding.weight"]:
            places["prompt_embeddings"] = inside["embedding.weight"]
        else:
            places |= {f"prompt_encoder.{name}": place for name, place in inside.items()}
    return places


def lora_scales(model: nn.Module, adapter: str) -> dict[str, float]:
    """What the products B·A of an adapter are multiplied by, by the names of the layers that they change.

    Args:
        model: A model in peft's wrapper, or one without adapters.
        adapter: The name of one.

    Returns:
        The scale of every layer that has factors of this adapter; empty where it is no LoRA.
    """
    return {
        name: float(scales[adapter])
        for name, module in model.named_modules()
        if isinstance(scales := getattr(module, "scaling", None), dict) and adapter in scales
    }


def lora_shapes(model: nn.Module, adapter: str) -> dict[str, tuple[int, int, int]]:
    """What shapes an adapter's factors B [out, r] and A [r, in] have where B·A is the change of the weight itself.

    Args:
        model: A model in peft's wrapper, or one without adapters.
        adapter: The name of one.

    Returns:
        (out, r, in) by the names of the layers, as in :func:`lora_scales`.
    """
    modules = dict(model.named_modules())
    return {
        name: (modules[name].out_features, modules[name].r[adapter], modules[name].in_features)
        for name in lora_scales(model, adapter)
        if all(hasattr(modules[name], of) for of in ("out_features", "r", "in_features"))
    }
