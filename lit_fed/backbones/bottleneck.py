"""Bottleneck adapters: small networks after the attention and feed-forward blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch.nn.functional as F
from peft import PeftConfig
from torch import Tensor, nn

from lit_fed.backbones.anatomy import block_outputs
from lit_fed.backbones.custom_peft import CustomLayer, CustomTuner, register
from lit_fed.limits import require_at_least

NonLinearity = Literal["gelu", "relu", "silu", "tanh"]


@dataclass
class BottleneckConfig(PeftConfig):
    r"""Bottleneck adapters (down, non-linearity, up) after every attention and feed-forward block.

    The output h of a block becomes :math:`h + W_\uparrow\,\sigma(W_\downarrow h + b_\downarrow) +
    b_\uparrow`, before the model adds the residual connection. At first the upward map is zero, and the
    model computes what it did before. An adapter has 2dw + d + w parameters, with d the hidden size and
    w the width. The non-linearity keeps it from being merged into the weights.

    Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", 2019, section 2.1,
    https://arxiv.org/abs/1902.00751. The paper trains the norms as well: ``modules_to_save``.

    It is a configuration like those of peft. For ``PeftModel.from_pretrained`` to know it, import it.

    Args:
        width: Size of the bottleneck.
        non_linearity: Between the two maps.
        target_modules: The modules that an adapter comes after, by the ends of their names or by a
            regular expression. None: the blocks by their role; in a model like BERT, whose attention
            does not hold its output map, after that map.
        exclude_modules: Of these, those that none comes after.
        modules_to_save: Modules that are trained as a whole, beside a classifier's head.

    Raises:
        ValueError: If the width is below 1, or there is no such non-linearity.

    >>> from peft import get_peft_model
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> size = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 1}
    >>> llama = LlamaForCausalLM(LlamaConfig(vocab_size=9, num_hidden_layers=1, **size))
    >>> model = get_peft_model(llama, BottleneckConfig(width=2))
    >>> sorted(model.targeted_module_names)
    ['model.layers.0.mlp', 'model.layers.0.self_attn']
    >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
    84
    """

    width: int = 16
    non_linearity: NonLinearity = "gelu"
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # peft's
        self.peft_type: Any = "BOTTLENECK"
        require_at_least("model.backbone.peft.width", self.width, 1)
        if self.non_linearity not in get_args(NonLinearity):
            raise ValueError(
                f"`model.backbone.peft.non_linearity` is expected to be one of "
                f"{', '.join(get_args(NonLinearity))}, but got {self.non_linearity!r}"
            )


class BottleneckLayer(CustomLayer):
    """A module followed by bottleneck adapters. The changes of several add up."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")

    def __init__(self, base_layer: nn.Module, adapter: str) -> None:
        super().__init__(base_layer, adapter)
        self.bottleneck_down = nn.ModuleDict()
        self.bottleneck_up = nn.ModuleDict()
        self._non_linearities: dict[str, NonLinearity] = {}

    def add(self, adapter: str, config: BottleneckConfig, hidden_size: int) -> None:
        """Add an adapter."""
        base = self.get_base_layer()
        weight = next(base.parameters(), None)
        if weight is None:
            raise ValueError("has no parameters: adapters come after blocks and linear layers")
        # Linear layers say how wide their output is; the output of a block is the hidden state.
        size: int = getattr(base, "out_features", getattr(base, "nf", hidden_size))
        self.bottleneck_down[adapter] = nn.Linear(size, config.width, device=weight.device)
        self.bottleneck_up[adapter] = up = nn.Linear(config.width, size, device=weight.device)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
        self._non_linearities[adapter] = config.non_linearity

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's output, adapted; of a tuple the first tensor."""
        output = self.base_layer(*args, **kwargs)
        if self.disable_adapters:
            return output
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        adapted = hidden
        for adapter in self._active(self.bottleneck_down):
            down, up = self.bottleneck_down[adapter], self.bottleneck_up[adapter]
            non_linearity = getattr(F, self._non_linearities[adapter])
            # The adapter is float32 also on a model of 16 bits.
            inner = non_linearity(down(hidden.to(next(down.parameters()).dtype)))
            adapted = adapted + up(inner).to(hidden.dtype)
        return (adapted, *output[1:]) if isinstance(output, tuple) else adapted


class BottleneckModel(CustomTuner):
    """Puts bottleneck adapters on a model."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer

    @staticmethod
    def find_targets(model: nn.Module) -> set[str]:
        """Names of the attention and feed-forward blocks, or of the last map of each."""
        try:
            return block_outputs(model)
        except ValueError as error:
            raise ValueError(
                f"`target_modules` is expected to say what bottleneck adapters come after, because "
                f"{type(model).__name__} is unknown: {error}"
            ) from error

    def _check_merge_allowed(self) -> None:
        raise ValueError(
            "bottleneck adapters are not linear and cannot be merged into the weights: save the "
            "adapter, or take it off by `unload`"
        )


register(BottleneckConfig, BottleneckModel, "BOTTLENECK")
