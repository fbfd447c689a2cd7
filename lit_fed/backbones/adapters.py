"""Adapters of one resident model: which there are, which are active, which are trained."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lit_fed.backbones.adaptation import further_config
from lit_fed.backbones.adapter_parameters import (
    Place,
    adapter_places,
    all_places,
    held_places,
)
from lit_fed.backbones.master_weights import cast_around_copies, widen
from lit_fed.backbones.peft_methods import keeping_base

if TYPE_CHECKING:
    from peft import PeftConfig

DEFAULT = "default"


class Adapters:
    """The adapters on one resident model. One, ``default``, is there from the beginning.

    Args:
        model: A model in peft's wrapper; or one without adapters, of which all weights are trained.
        config: The first adapter's configuration. None: there are none.
        base: What the model held before it had adapters.

    Attributes:
        active: Names of those that take part in the forward pass.
        trained: Names of those that are trained.

    Raises:
        ValueError: If something is trained that the adapter's file would not hold.
    """

    def __init__(self, model: Any, config: PeftConfig | None, base: Collection[Place] = ()) -> None:
        self.active: tuple[str, ...] = (DEFAULT,)
        self.trained: tuple[str, ...] = (DEFAULT,)
        self._model = model
        self._config = config
        self._places: dict[str, dict[str, Place]] = {}
        self._added: list[Place] = []
        self._frozen: dict[str, frozenset[str]] = {}
        self._summed = False
        # What the method itself never trains, such as one of LoRA's maps, by the names in the file.
        self._fixed: frozenset[str] = frozenset()
        if config is None:
            self._places[DEFAULT] = all_places(model)
            return
        self._add_places(DEFAULT, base)
        own = self.parameters(DEFAULT)
        self._fixed = frozenset(name for name, p in own.items() if not p.requires_grad)
        known = {id(p) for p in own.values()}
        lost = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in known]
        if lost:
            raise ValueError(
                f"`model.backbone.peft` is {type(config).__name__}, which cannot be used: it trains "
                f"{some(lost)}, but does not save them"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all adapters."""
        return tuple(self._places)

    def require(self, *adapters: str) -> None:
        """Raise unless there are such adapters.

        Raises:
            KeyError: Naming the first that is not there.
        """
        for adapter in adapters:
            if adapter not in self._places:
                raise KeyError(f"no adapter {adapter!r}: there are {', '.join(self._places)}")

    def parameters(self, adapter: str) -> dict[str, nn.Parameter]:
        """An adapter's live parameters, by their names in its file.

        Raises:
            KeyError: If there is no such adapter.
        """
        self.require(adapter)
        return {name: getattr(*place) for name, place in self._places[adapter].items()}

    def tensors(self) -> list[Tensor]:
        """All parameters and buffers that adapters have put into the model, also those that never train."""
        return [getattr(*place) for place in self._added]

    def add(self, name: str, config: PeftConfig | None, head: bool) -> None:
        """Add an adapter, which is neither active nor trained; see :meth:`Backbone.add_adapter`."""
        if self._config is None:
            raise ValueError(
                f"`model.backbone.peft` is expected to be a PEFT configuration, of which adapter "
                f"{name!r} would be a second one, but got null"
            )
        parts = {part for key, _ in self._model.named_parameters() for part in key.split(".")}
        # peft finds an adapter's parameters by its name among the parts of theirs.
        if not name or "." in name or name in parts | self._places.keys():
            raise ValueError(
                f"`name` of an adapter is expected to be new, without dots and unlike the names in "
                f"the model, but got {name!r}"
            )
        base, before = self._model.get_base_model(), held_places(self._model)
        further = further_config(config, self._config, base, name, head)
        with keeping_base(base, further, "config"):
            try:
                if head:
                    self._model.add_adapter(name, further)
                else:
                    from peft import PeftModel

                    # A classifier's own method would add its head.
                    PeftModel.add_adapter(self._model, name, further)
            except (TypeError, ValueError) as error:
                if config is None:
                    raise
                raise ValueError(f"`config` of adapter {name!r}: {error}") from error
        self._add_places(name, before)
        self.select(self.active, self.trained)

    def freeze(self, names: Collection[str], adapter: str) -> None:
        """Keep an adapter's parameters from training; see :meth:`Backbone.freeze`."""
        if unknown := set(names) - self.parameters(adapter).keys():
            raise ValueError(
                f"`names` is expected to be of parameters of adapter {adapter!r}, but {some(unknown)} are not"
            )
        if self._frozen.get(adapter, frozenset()) != frozenset(names):
            self._frozen[adapter] = frozenset(names)
            self.select(self.active, self.trained)

    def select(self, active: tuple[str, ...], trained: tuple[str, ...]) -> None:
        """Make the model use and train adapters, without a note of it in ``active`` and ``trained``.

        Args:
            active: Those that take part. None of them: the base model alone, with its own head.
            trained: Those that are trained.

        Raises:
            KeyError: If there is no such adapter.
            ValueError: If several of prompts are active, or none where they cannot be switched off.
        """
        self.require(*active, *trained)
        if not active:
            self._require_base()
        if self._config is None:
            self._model.requires_grad_(bool(trained))
            self._keep_frozen()
            return
        prompts = self._config.is_prompt_learning
        if prompts and len(active) > 1:
            raise ValueError(
                f"`adapters` is expected to be a single one, since prompts do not add up, but got "
                f"{', '.join(active)}"
            )
        self._model._adapters_disabled = not active
        parts: list[Any] = [*self._layers, *self._heads]
        for part in parts:
            if part.disable_adapters == bool(active):
                part.enable_adapters(bool(active))
        if active:
            self._switch(active)
        for adapter in self._places.keys() - set(trained):
            for parameter in self.parameters(adapter).values():
                parameter.requires_grad_(False)
        self._keep_frozen()

    def _switch(self, active: tuple[str, ...]) -> None:
        for layer in self._layers:
            layer.set_adapter(list(active))
        if self._summed != (len(active) > 1):
            from lit_fed.backbones.summed_lora import sum_adapters

            self._summed = len(active) > 1
            sum_adapters(self._layers, self._summed)
        for head in self._heads:
            head.set_adapter([a for a in active if head.check_set_adapter([a])][:1])
        self._model.active_adapter = active[0]
        if self._model.peft_config[active[0]].is_prompt_learning:
            for name, encoder in self._model.prompt_encoder.items():
                encoder.requires_grad_(name in active)
        else:
            self._model.base_model.active_adapter = list(active)

    def _keep_frozen(self) -> None:
        for adapter in self._places if self._fixed else self._frozen:
            names = self._fixed | self._frozen.get(adapter, frozenset())
            parameters = self.parameters(adapter) if names else {}
            for name in names & parameters.keys():
                parameters[name].requires_grad_(False)

    def _require_base(self) -> None:
        """Raise where there is no base model without adapters."""
        if self._config is None:
            raise ValueError(
                "`model.backbone.peft` is expected to be a PEFT configuration for the base without its "
                "adapters, but got null: all weights are trained"
            )
        if not self._layers and not self._config.is_prompt_learning:
            raise ValueError(
                f"`model.backbone.peft` is {type(self._config).__name__}, whose adapters cannot be "
                f"switched off"
            )

    def _add_places(self, adapter: str, before: Collection[Place]) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer
        from peft.utils.other import AuxiliaryTrainingWrapper

        self._places[adapter] = adapter_places(self._model, adapter)
        known = {(id(module), name) for module, name in before}
        held = held_places(self._model)
        self._added += [(module, name) for module, name in held if (id(module), name) not in known]
        widen(self._model, self.parameters(adapter).values())
        cast_around_copies(self._model, adapter)
        # Kept at hand, because a method may switch adapters several times a training step.
        named = list(self._model.named_modules())
        heads = {name: part for name, part in named if isinstance(part, AuxiliaryTrainingWrapper)}
        inside = tuple(f"{name}." for name in heads)
        self._heads = list(heads.values())
        self._layers = [
            part
            for name, part in named
            if isinstance(part, BaseTunerLayer) and not name.startswith(inside)
        ]


def some(names: Iterable[str]) -> str:
    """The first three names and how many more there are, for a message."""
    listed = sorted(names)
    more = f" and {len(listed) - 3} more" if len(listed) > 3 else ""
    return ", ".join(listed[:3]) + more or "none"
