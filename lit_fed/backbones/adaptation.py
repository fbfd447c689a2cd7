"""Adaptation: a PEFT configuration is completed from the model, checked and put on it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from torch import nn

from lit_fed.backbones.anatomy import head_names
from lit_fed.backbones.peft_methods import keeping_base, require_usable

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

    from lit_fed.backbones.pretrained import Pretrained

# Those that peft itself adds to `modules_to_save` of every sequence classifier.
_HEADS_OF_PEFT = ("classifier", "score")


def complete_config(
    peft: PeftConfig | Literal["lora"], pretrained: Pretrained, task_type: str, revision: str | None
) -> PeftConfig:
    """A copy of a PEFT configuration with what follows from the model.

    Args:
        peft: The configuration, or ``lora``: rank 8, alpha 16, no dropout, and whatever the
            checkpoint does not hold is trained as a whole.
        pretrained: The model before it is adapted.
        task_type: What peft calls the task.
        revision: Of the model on the hub, for who loads the adapter.

    Returns:
        The copy: task, base model, the heads of a classifier in ``modules_to_save``, and
        ``target_modules`` for LoRA, where they are not given: those peft knows for the
        architecture, else all linear layers but the head.

    Raises:
        TypeError: If it is no PEFT configuration.
        ValueError: If it is of a method that cannot be used, or names modules that the model does not have.
    """
    from peft import LoraConfig, PeftConfig, TaskType

    model = pretrained.model
    config: PeftConfig
    if peft == "lora":
        config = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0)
    elif isinstance(peft, PeftConfig):
        config = copy.deepcopy(peft)
    else:
        raise TypeError(
            "`model.backbone.peft` is expected to be a PEFT configuration (such as class_path: "
            f"peft.LoraConfig), lora or null, but got {peft!r}"
        )
    require_usable(config, "model.backbone.peft")
    config.task_type = TaskType(task_type)
    config.base_model_name_or_path = model.name_or_path
    config.revision = revision
    config.inference_mode = False
    _complete_lora(config, model)
    _require_modules(model, config, "model.backbone.peft")

    classifies = config.task_type == TaskType.SEQ_CLS
    if classifies and config.is_prompt_learning and model.config.is_encoder_decoder:
        raise ValueError(
            f"`model.backbone.peft` is {type(config).__name__}, but {type(model).__name__} takes no "
            f"prompts: use LoRA or another configuration with target modules"
        )
    added = head_names(model) if classifies else []
    if peft == "lora":
        lacking = sorted({name.rpartition(".")[0] for name in pretrained.initialised})
        added += [name for name in lacking if name.split(".")[0] not in added]
    if hasattr(config, "modules_to_save"):
        saved = list(config.modules_to_save or [])
        saved += [name for name in added if name not in (*saved, *_HEADS_OF_PEFT)]
        config.modules_to_save = saved or None
    return config


def further_config(
    given: PeftConfig | None, first: PeftConfig, model: PreTrainedModel, adapter: str, head: bool
) -> PeftConfig:
    """The configuration of a further adapter on a model that has one.

    Args:
        given: Another configuration than the first adapter's, of the same kind. What it leaves open
            follows from the model. None: a copy of the first one.
        first: The first adapter's configuration, complete.
        model: The model without peft's wrapper.
        adapter: The further adapter's name, for messages.
        head: Whether it trains modules as a whole: its own ``modules_to_save`` and the first one's.

    Raises:
        TypeError: If it is no PEFT configuration.
        ValueError: If peft cannot have it beside the first, or it names modules that the model does not have.
    """
    from peft import PeftConfig

    config = copy.deepcopy(first if given is None else given)
    if given is not None:
        where = f"`config` of adapter {adapter!r}"
        if not isinstance(given, PeftConfig):
            raise TypeError(f"{where} is expected to be a PEFT configuration, but got {given!r}")
        if given.peft_type != first.peft_type:
            raise ValueError(
                f"{where} is expected to be of the same kind as that of the model's other adapters, "
                f"{type(first).__name__}, since peft does not mix kinds on one model, but got "
                f"{type(given).__name__}"
            )
        if first.is_prompt_learning:
            raise ValueError(
                f"{where} is expected to be null, since all prompts of a model are of the same "
                f"configuration, but got {type(given).__name__}"
            )
        require_usable(given, "config")
        config.task_type = first.task_type
        config.base_model_name_or_path = first.base_model_name_or_path
        config.revision = first.revision
        config.inference_mode = False
        _complete_lora(config, model)
        _require_modules(model, config, "config")
    if hasattr(config, "modules_to_save"):
        own = list(config.modules_to_save or [])
        shared = getattr(first, "modules_to_save", None) or []
        saved = [*own, *(name for name in shared if name not in own)]
        config.modules_to_save = (saved or None) if head else None
    return config


def adapt(model: PreTrainedModel, config: PeftConfig) -> PeftModel:
    """Put an adapter of the name ``default`` on a model, which is changed.

    Raises:
        ValueError: If peft does not take the configuration for this model.
    """
    from peft import get_peft_model

    # peft writes the names of a classifier's head into the configuration it is given.
    config = copy.deepcopy(config)
    with keeping_base(model, config, "model.backbone.peft"), warnings.catch_warnings():
        # peft asks for what newer transformers have given another name.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        try:
            return get_peft_model(model, config)
        except (TypeError, ValueError) as error:
            message = " ".join(str(error).split())
            if "target_modules" in message or "arget modules" in message or "targeted" in message:
                targets = getattr(config, "target_modules", None)
                raise _target_error(model, config, targets, "model.backbone.peft") from error
            raise ValueError(f"`model.backbone.peft`: {message}") from error


def require_saved(initialised: Iterable[str], saved: Iterable[str]) -> None:
    """Raise if the adapter's file would miss parameters that the base checkpoint misses as well.

    They are random and frozen, so whoever loads the adapter would get other values.

    Args:
        initialised: Names of the parameters that the checkpoint does not hold.
        saved: Names in the adapter's file.

    Raises:
        ValueError: Naming them and what to set.
    """
    known = set(saved)
    lost = [
        name
        for name in initialised
        # Prompts wrap the model once, other adapters twice.
        if known.isdisjoint((f"base_model.model.{name}", f"base_model.{name}"))
    ]
    if lost:
        modules = sorted({name.rpartition(".")[0] for name in lost})
        raise ValueError(
            f"`model.backbone.model` has no weights for {', '.join(lost)}: they are random, and the "
            f"adapter would neither train nor save them; add them to "
            f"`model.backbone.peft.modules_to_save: [{', '.join(modules)}]`"
        )


def _complete_lora(config: PeftConfig, model: PreTrainedModel) -> None:
    from peft import LoraConfig, PeftType
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    if not isinstance(config, LoraConfig) or config.peft_type != PeftType.LORA:
        return
    if config.init_lora_weights != "loftq":
        # jsonargparse fills it in where peft's own default is an empty one.
        config.loftq_config = {}
    given = config.target_modules or config.target_parameters
    if not given and model.config.model_type not in KNOWN:
        config.target_modules = "all-linear"


def _require_modules(model: PreTrainedModel, config: PeftConfig, where: str) -> None:
    names = [name for name, _ in model.named_modules()]
    for setting in ("target_modules", "modules_to_save"):
        wanted = getattr(config, setting, None)
        if wanted is None or isinstance(wanted, str):
            continue
        missing = [w for w in wanted if w != "all-linear" and not _names_one(w, names)]
        if missing and setting == "target_modules":
            raise _target_error(model, config, missing, where)
        if missing:
            last = sorted({n.rpartition(".")[2] for n in names[1:]} - {str(i) for i in range(999)})
            raise ValueError(
                f"`{where}.modules_to_save` is expected to name modules of the model, "
                f"but it has no {', '.join(missing)}; it has {', '.join(last)}"
            )


def _names_one(wanted: str, names: Sequence[str]) -> bool:
    return any(name == wanted or name.endswith(f".{wanted}") for name in names)


def _target_error(
    model: PreTrainedModel, config: PeftConfig, wanted: object, where: str
) -> ValueError:
    from transformers.pytorch_utils import Conv1D

    linear = {
        # A layer that is adapted already is in a wrapper.
        name.removesuffix(".base_layer").rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and ".lora_" not in name
    }
    shown = ", ".join(sorted(wanted)) if isinstance(wanted, list | set) else wanted or "null"
    return ValueError(
        f"`{where}.target_modules` is expected to name modules of the model that "
        f"{type(config).__name__} can adapt, but got {shown}; its linear layers are "
        f"{', '.join(sorted(linear - set(head_names(model))))}"
    )
