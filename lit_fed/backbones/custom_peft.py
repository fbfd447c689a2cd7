"""Custom PEFT methods: the base classes of adapters that peft does not have, and their registration with it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from lit_fed.backbones.anatomy import hidden_size

if TYPE_CHECKING:
    from peft import PeftConfig


class CustomLayer(nn.Module, BaseTunerLayer):
    """A wrapper that adapts one module of the model.

    Args:
        base_layer: The module, whose place the wrapper takes.
        adapter: Name of the adapter that is active at first.
    """

    def __init__(self, base_layer: nn.Module, adapter: str) -> None:
        super().__init__()
        self.base_layer: nn.Module = base_layer
        self.merged_adapters: list[str] = []
        self._active_adapter = adapter

    @abstractmethod
    def add(self, adapter: str, config: Any, hidden_size: int) -> None:
        """Add an adapter's parameters, with which the output is the same as without.

        Args:
            adapter: Its name.
            config: Its configuration.
            hidden_size: Size d of the model's hidden state.

        Raises:
            ValueError: If the module cannot be adapted.
        """

    def _active(self, parameters: nn.ModuleDict | nn.ParameterDict) -> list[str]:
        """Names of the active adapters that have parameters here."""
        return [adapter for adapter in self.active_adapters if adapter in parameters]


class CustomTuner(BaseTuner):
    """Puts adapters on a Hugging Face model, at ``target_modules`` or where the method itself finds its targets."""

    tuner_layer_cls: type[CustomLayer]

    @staticmethod
    @abstractmethod
    def find_targets(model: nn.Module) -> set[str]:
        """Names of the modules that are adapted if the configuration names none.

        Raises:
            ValueError: If there are none.
        """

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        if peft_config.target_modules is None:
            # In a model that is wrapped already, they are where they were found the first time.
            peft_config.target_modules = set(
                self.targeted_module_names or self.find_targets(self.model)
            )
        return peft_config

    def _create_and_replace(
        self,
        peft_config: PeftConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        layer = target
        if not isinstance(layer, CustomLayer):
            layer = self.tuner_layer_cls(target, adapter_name)
        try:
            layer.add(adapter_name, peft_config, hidden_size(self.model))
        except ValueError as error:
            raise ValueError(f"module {current_key} {error}") from error
        if layer is not target:
            self._replace_module(parent, target_name, layer, target)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        # peft's own looks for a weight, which an attention block does not have.
        setattr(parent, child_name, new_module)


def register(config: type[PeftConfig], tuner: type[CustomTuner], peft_type: str) -> None:
    """Make a method known to peft, so that ``PeftModel.from_pretrained`` loads its adapters.

    Args:
        config: The class of its configurations.
        tuner: The class that puts its adapters on a model.
        peft_type: What stands for it in ``adapter_config.json``.

    >>> from lit_fed.backbones import BitFitConfig  # its module registers it
    >>> PEFT_TYPE_TO_CONFIG_MAPPING["BITFIT"] is BitFitConfig
    True
    """
    # `peft.utils.register_peft_method` takes members of an enumeration only, which cannot be extended.
    mappings: tuple[tuple[dict[Any, Any], object], ...] = (
        (PEFT_TYPE_TO_CONFIG_MAPPING, config),
        (PEFT_TYPE_TO_TUNER_MAPPING, tuner),
        (PEFT_TYPE_TO_PREFIX_MAPPING, tuner.prefix),
    )
    for mapping, entry in mappings:
        mapping[peft_type] = entry
