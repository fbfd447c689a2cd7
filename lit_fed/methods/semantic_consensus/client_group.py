"""Client groups: which clients train which backbone, or ask which black box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from lightning.pytorch.cli import OptimizerCallable

from lit_fed.backbones import Backbone, TextGenerator


@dataclass
class ClientGroup:
    """Clients that have a backbone of their own, which is in memory once for all of them.

    Attributes:
        backbone: The model, its tokenizer and its trainable part; or a black box, which answers and trains nothing,
            such as an :class:`~lit_fed.backbones.HTTPGenerator`.
        ids: The clients' ids.
        optimizer: Makes their optimizer. None: the method's.
    """

    backbone: Backbone | TextGenerator
    ids: list[str]
    optimizer: OptimizerCallable | None = None

    def __deepcopy__(self, memo: object) -> Self:
        """Itself: it is a setting, and what clients train of it is copied with the module that has it."""
        return self


def first_backbone(
    backbone: Backbone | None, groups: Sequence[ClientGroup] | None
) -> Backbone | None:
    """The backbone of clients that no group names: the one that is given, else that of the first group that trains."""
    if backbone is not None:
        return backbone
    own = (group.backbone for group in groups or () if isinstance(group.backbone, Backbone))
    return next(own, None)
