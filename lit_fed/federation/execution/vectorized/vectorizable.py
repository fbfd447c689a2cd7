"""What can be vectorized over clients, and the error for what cannot."""

from __future__ import annotations

from typing import Final

from torch import nn

from lit_fed.backbones import Backbone
from lit_fed.backbones.anatomy import head_sizes

GENERATE: Final = "`backbone.generate`"
"""Writing texts: continuations grow one token at a time, each client's its own."""


class CannotVectorize(ValueError):
    """A method, model or setting does something that cannot be done for several clients at once.

    It ends the run, for what cannot be vectorised is never done in another way silently.

    Args:
        what: What it is.

    Example:
        >>> print(CannotVectorize("`backbone.generate`"))
        `trainer.execution` VectorizedClients cannot run `backbone.generate` for several clients at
        once: use lit_fed.federation.SequentialClients
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f"`trainer.execution` VectorizedClients cannot run {what} for several clients at once: use "
            f"lit_fed.federation.SequentialClients"
        )


def other_sizes(backbone: Backbone) -> frozenset[int]:
    """Sizes that dimensions of the model's tensors have beside rows and tokens."""
    sizes = {size for parameter in backbone.parameters() for size in parameter.shape}
    return frozenset(sizes | head_sizes(backbone._base))


def require_independent_rows(backbone: Backbone) -> None:
    """Refuse a model in which one client's rows could change another's.

    Raises:
        CannotVectorize: Naming what does it.
    """
    if backbone.tokenizer.padding_side != "right":
        raise CannotVectorize("a model whose rows are padded on the left")
    for name, module in backbone.model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise CannotVectorize(f"a model with {type(module).__name__} ({name})")
        if getattr(module, "gradient_checkpointing", False):
            raise CannotVectorize("`model.backbone.gradient_checkpointing`")
