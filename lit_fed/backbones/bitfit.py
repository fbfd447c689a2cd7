"""BitFit: an adapter that trains the biases alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftConfig
from peft.tuners.tuners_utils import check_adapters_to_merge
from torch import Tensor, nn
from torch.func import functional_call

from lit_fed.backbones.anatomy import body_modules
from lit_fed.backbones.custom_peft import CustomLayer, CustomTuner, register


@dataclass
class BitFitConfig(PeftConfig):
    r"""BitFit: the biases of all linear layers and norms of the model's body are trained.

    A layer computes with :math:`b + \Delta b` in place of b. The adapter is :math:`\Delta b`, at first
    zero, so that several fit on one resident model; its gradient is that of b itself, and weight decay
    pulls towards the checkpoint's b. The head of a classifier is trained as a whole.

    Ben Zaken et al., "BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
    Language-models", 2022, section 3, https://arxiv.org/abs/2106.10199.

    It is a configuration like those of peft. For ``PeftModel.from_pretrained`` to know it, import it.

    Args:
        target_modules: The modules whose bias is trained, by the ends of their names or by a regular
            expression, such as ``[query, intermediate.dense]`` for the paper's half of a BERT's biases.
            None: all with a bias.
        exclude_modules: Of these, those whose bias is not.
        modules_to_save: Modules that are trained as a whole, beside a classifier's head.

    >>> from peft import get_peft_model
    >>> from transformers import BertConfig, BertModel
    >>> size = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 1}
    >>> bert = BertModel(BertConfig(vocab_size=9, num_hidden_layers=1, **size))
    >>> model = get_peft_model(bert, BitFitConfig(target_modules=["query", "intermediate.dense"]))
    >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
    24
    """

    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]  # peft's
        self.peft_type: Any = "BITFIT"


class BitFitLayer(CustomLayer):
    """A module with changes of its bias. Those of several adapters add up."""

    adapter_layer_names = ("bitfit_bias",)

    def __init__(self, base_layer: nn.Module, adapter: str) -> None:
        super().__init__(base_layer, adapter)
        self.bitfit_bias = nn.ParameterDict()

    def add(self, adapter: str, config: BitFitConfig, hidden_size: int) -> None:
        """Add an adapter."""
        bias = getattr(self.get_base_layer(), "bias", None)
        if not isinstance(bias, Tensor):
            raise ValueError("has no bias, which BitFit would train")
        self.bitfit_bias[adapter] = nn.Parameter(torch.zeros_like(bias))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's output with the bias changed."""
        if self.disable_adapters and self.merged:
            self.unmerge()
        active = self._active(self.bitfit_bias)
        if self.disable_adapters or self.merged or not active:
            return self.base_layer(*args, **kwargs)
        return functional_call(self.base_layer, {"bias": self._bias(active)}, args, kwargs)

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add changes to the bias of the model.

        Args:
            safe_merge: Whether to look first if the sum is finite.
            adapter_names: Of the adapters. None: the active ones.

        Raises:
            ValueError: If the sum is not finite.
        """
        for adapter in check_adapters_to_merge(self, adapter_names):
            if adapter not in self.bitfit_bias:
                continue
            merged = self._bias([adapter])
            if safe_merge and not merged.isfinite().all():
                raise ValueError(f"adapter {adapter!r} has a bias that is not finite")
            self.bias.copy_(merged)
            self.merged_adapters.append(adapter)

    @torch.no_grad()
    def unmerge(self) -> None:
        """Take all that was merged off again."""
        while self.merged_adapters:
            self.bias.sub_(self.bitfit_bias[self.merged_adapters.pop()])

    def _bias(self, adapters: list[str]) -> Tensor:
        changed = sum((self.bitfit_bias[adapter] for adapter in adapters), self.bias)
        return changed.to(self.bias.dtype)


class BitFitModel(CustomTuner):
    """Puts changes of the biases on a model."""

    prefix = "bitfit_"
    tuner_layer_cls = BitFitLayer

    @staticmethod
    def find_targets(model: nn.Module) -> set[str]:
        """Names of the modules of the model's body that have a bias."""
        found = {
            name
            for name, module in body_modules(model).items()
            if isinstance(getattr(module, "bias", None), nn.Parameter)
        }
        if not found:
            raise ValueError(f"BitFit trains biases, but {type(model).__name__} has none")
        return found


register(BitFitConfig, BitFitModel, "BITFIT")
