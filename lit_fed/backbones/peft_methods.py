"""PEFT methods: which of them a federation cannot use, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from torch import nn

from lit_fed.backbones.identity import weights_digest

if TYPE_CHECKING:
    from peft import PeftConfig

_FROM_DATA = "is computed from data before training, which no client's rows are read for"
_IN_THE_LOOP = (
    "prunes itself by calls of `update_and_allocate` within the training loop, which clients do not make: it would "
    "never prune"
)
_OWN_LOSS = "has a loss of its own, which no method adds to what it trains on"
_TASKS = "reads the number of a task with every row, which no encoding gives"
_OTHERS = "mixes adapters that were trained before, which a configuration cannot bring along"
_BASE = "changes the model's own weights, and clients, teachers and who loads the adapter need those of the checkpoint"

REFUSED: Final[Mapping[str, str]] = {
    "ADALORA": _IN_THE_LOOP,
    "ADAPTION_PROMPT": "puts its parts into the attention of a model, where no adapter can be switched off",
    "CPT": "learns a prompt of given tokens whose labels and kinds it reads with every row, which no encoding gives",
    "LILY": "weighs its parts by a mean over all rows and padding of a batch, on which each prediction would depend",
    "MULTITASK_PROMPT_TUNING": _TASKS,
    "OSF": "projects its gradients by hooks on its parameters, in whose place executions and precisions put others",
    "POLY": _TASKS,
    "SHADOW": _OWN_LOSS,
    "XLORA": _OTHERS,
}
"""Why a method cannot be used, by peft's name of it. Any other that the installed peft has is tested to work."""

_CHANGING_INITS: Final = ("pissa", "olora", "loftq")
_SETTINGS: Final[tuple[tuple[str, Callable[[Any], bool], str], ...]] = (
    ("init_lora_weights", lambda value: value in ("eva", "corda", "lora_ga"), _FROM_DATA),
    ("init_lora_weights", lambda value: str(value).startswith(_CHANGING_INITS), _BASE),
    ("kasa_config", lambda value: value is not None, _BASE),
    ("monteclora_config", lambda value: value is not None, _OWN_LOSS),
    (
        "bias",
        lambda value: value not in (None, False, "none"),
        "trains the model's own biases, which other adapters and teachers share (lit_fed.backbones.BitFitConfig trains "
        "changes of them)",
    ),
    (
        "layer_replication",
        bool,
        "repeats layers, so that the model without the adapter is another one",
    ),
    ("use_asa", bool, _IN_THE_LOOP),
    ("arrow_config", lambda value: value is not None, _OTHERS),
)


def require_usable(config: PeftConfig, where: str) -> None:
    """Refuse a method that would not do in a federation what it does elsewhere.

    Args:
        config: The configuration.
        where: What it is called, for the message.

    Raises:
        ValueError: Naming method and reason.

    Example:
        >>> from peft import LoraConfig
        >>> require_usable(LoraConfig(init_lora_weights="eva"), "peft")
        Traceback (most recent call last):
        ValueError: `peft` is LoraConfig with init_lora_weights 'eva', which cannot be used: it is computed from
        data before training, which no client's rows are read for
    """
    kind: Any = config.peft_type
    reason, given = REFUSED.get(getattr(kind, "value", kind)), type(config).__name__
    for setting, refused, why in _SETTINGS:
        value = getattr(config, setting, None)
        if reason is None and refused(value):
            reason, given = why, f"{given} with {setting} {value!r:.60}"
    if reason is not None:
        raise ValueError(f"`{where}` is {given}, which cannot be used: it {reason}")


@contextmanager
def keeping_base(model: nn.Module, config: PeftConfig, where: str) -> Iterator[None]:
    """Within the block an adapter is put on a model, whose own weights are to stay as they are.

    It is for what :func:`require_usable` does not know by name: initialisations that take a part out of the weights,
    which the adapter then holds. A sample of each weight is compared.

    Args:
        model: The model.
        config: The adapter's configuration.
        where: What it is called, for the message.

    Raises:
        ValueError: If they are not, naming the first.
    """
    before = [(name, p, weights_digest({"": p})) for name, p in model.named_parameters()]
    yield
    after = {id(p) for p in model.parameters()}
    changed = [n for n, p, told in before if id(p) not in after or weights_digest({"": p}) != told]
    if changed:
        raise ValueError(
            f"`{where}` is {type(config).__name__}, which cannot be used: it {_BASE} (first {changed[0]})"
        )
