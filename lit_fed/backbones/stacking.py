"""Stacking: an adapter's file gets factors of other changes beside its own: folded ones, and other adapters'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from lit_fed.backbones.adapter_parameters import LORA_FACTORS, lora_scales
from lit_fed.backbones.folding import WeightChange
from lit_fed.shards import whole

_WRAPPER: Final = "base_model.model."


def stack_changes(
    folder: Path, scales: Mapping[str, float], changes: Mapping[str, WeightChange]
) -> None:
    """Let a saved LoRA make up for changes that the model without it lacks: A ← [Q; A], B ← [P, s·B], s ← 1.

    It is exact, and as large as the changes: a matrix, which has no factors, takes as many as its shorter side.

    Args:
        folder: Of the adapter, which is changed.
        scales: s of each layer, by its name in peft's wrapper.
        changes: Of some of these layers.

    Raises:
        ValueError: If one is of another layer, or the saved adapter changes more than weights by two factors.
    """
    from peft import PeftConfig
    from safetensors.torch import load_file, save_file

    if unknown := sorted(changes.keys() - scales.keys()):
        raise ValueError(
            f"`adapters` are expected to be LoRAs of the layers of the first one, but {unknown[0]} is none of them"
        )
    path = folder / "adapter_model.safetensors"
    tensors: dict[str, Tensor] = load_file(path)
    for name in tensors:
        # a size of its own (DoRA), or a bias that is not scaled like a factor
        if "lora_magnitude_vector" in name or name.endswith("lora_B.bias"):
            raise ValueError(
                f"`adapters` are expected to be LoRAs where they are written as one, but the first one has {name}"
            )
    ranks: dict[str, int] = {}
    for layer, scale in scales.items():
        a, b = next((layer + a, layer + b) for a, b in LORA_FACTORS if layer + a in tensors)
        downs, ups = [tensors[a]], [scale * tensors[b]]
        if layer in changes:
            p, q = changes[layer].factors()
            downs, ups = [q.to(downs[0]), *downs], [p.to(ups[0]), *ups]
        tensors[a], tensors[b] = torch.cat(downs), torch.cat(ups, 1)
        ranks[layer.removeprefix(_WRAPPER)] = len(tensors[a])
    save_file(tensors, path, metadata={"format": "pt"})

    config: Any = PeftConfig.from_pretrained(str(folder))
    usual = Counter(ranks.values()).most_common(1)[0][0]
    # anchored, since peft takes a name for that of every layer that ends so
    others = {f"^{layer}": rank for layer, rank in ranks.items() if rank != usual}
    config.r, config.lora_alpha, config.use_rslora = usual, usual, False
    config.rank_pattern, config.alpha_pattern = others, dict(others)
    config.save_pretrained(str(folder))


def with_adapters(
    model: Any, changes: Mapping[str, WeightChange], adapters: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, WeightChange]:
    """Changes of frozen weights, and s·B·A of LoRAs besides.

    Args:
        model: In peft's wrapper.
        changes: By the names of peft's layers in the wrapper.
        adapters: The LoRAs' parameters by the names in their files, by the names of the LoRAs; sharded ones are
            gathered, for which all processes call this.

    Raises:
        ValueError: If an adapter is something else than a LoRA.
    """
    total = dict(changes)
    for adapter, held in adapters.items():
        left = set(held)
        for layer, scale in lora_scales(model, adapter).items():
            named = ((layer + a, layer + b) for a, b in LORA_FACTORS if layer + a in held)
            if (factors := next(named, None)) is None:
                raise ValueError(
                    f"`adapters` are expected to be LoRAs where they are written as one, but {adapter!r} has no "
                    f"factors of {layer}"
                )
            a, b = factors
            left -= {a, b}
            own = WeightChange(scale * whole(held[b].detach()), whole(held[a].detach()))
            total[layer] = total[layer].plus(own) if layer in total else own
        if left:
            raise ValueError(
                f"`adapters` are expected to be LoRAs where they are written as one, but {adapter!r} has {min(left)}"
            )
    return total
