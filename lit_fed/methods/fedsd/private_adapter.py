"""The private adapter: a second LoRA beside the one that is exchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lit_fed.aggregation.lora.factors import LoRALayout
from lit_fed.aggregation.lora.ranks import resized
from lit_fed.backbones.adapters import DEFAULT
from lit_fed.limits import require_none_or_at_least, require_positive

if TYPE_CHECKING:
    from torch import Tensor

    from lit_fed.backbones import Backbone

PRIVATE: Final = "private"
"""The name of the adapter, of the stage that trains it, and of the part of a client's private state that holds it."""

SHARED: Final = "shared"
"""The name of the stage that trains the other one."""


def add_private(backbone: Backbone, rank: int | None, alpha: float | None) -> dict[str, Tensor]:
    """Add a LoRA without a head, on the layers of the one that is there.

    It changes nothing before it has trained, whatever the initialisation of the other one.

    Args:
        backbone: The backbone with a plain LoRA.
        rank: Its rank. None: the other one's.
        alpha: Its alpha. None: the other one's.

    Returns:
        A copy of its weights as they are built, by name.

    Raises:
        ValueError: If the backbone has no plain LoRA, or a number is out of range.
    """
    require_none_or_at_least("model.private_rank", rank, 1)
    if alpha is not None:
        require_positive("model.private_alpha", alpha)
    LoRALayout.of(backbone, "FedSDR", setting="model")
    own: Any = backbone.model.peft_config[DEFAULT]
    config = resized(own, rank, own.lora_alpha if alpha is None else alpha)
    config.init_lora_weights = True
    backbone.add_adapter(PRIVATE, config, head=False)
    return {name: w.detach().clone() for name, w in backbone.trainable(PRIVATE).items()}
