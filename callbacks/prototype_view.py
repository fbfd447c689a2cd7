"""What callbacks read of a method with prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import Encoding
    from lit_fed.prototypes import PrototypeSet


class PrototypeMethod(Protocol):
    """A method with prototypes, such as ``lit_fed.PrototypeDefense``."""

    prototypes: Any

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Vectors of texts by the gate's encoder, [n, d]."""
        ...


def require_prototypes(module: Any, callback: str) -> PrototypeMethod:
    """The method, if it has prototypes.

    Args:
        module: The method.
        callback: Who asks, for the message.

    Raises:
        TypeError: If it has none.

    Example:
        >>> require_prototypes(object(), "DriftAlarm")
        Traceback (most recent call last):
        TypeError: `DriftAlarm` expects a method with prototypes, such as PrototypeDefense, but got object
    """
    if not hasattr(type(module), "embed") or not (
        hasattr(type(module), "prototypes") or "prototypes" in vars(module)
    ):
        raise TypeError(
            f"`{callback}` expects a method with prototypes, such as PrototypeDefense, but got {type(module).__name__}"
        )
    found: PrototypeMethod = module
    return found


def prototypes_of(module: Any) -> PrototypeSet | None:
    """The method's present prototypes; None where it has none yet, which it may say by a RuntimeError.

    Args:
        module: The method.
    """
    try:
        found: PrototypeSet | None = module.prototypes
    except RuntimeError:
        return None
    return found


def require_row_vectors(module: Any, encoding: Encoding, rows: Dataset, callback: str) -> None:
    """Refuse rows of which no vectors can be had that are those of training.

    A model reads two texts of a row as a pair, with a mark between them; what it says of both as one text is nothing
    that it has learnt.

    Args:
        module: The method.
        encoding: How rows are written.
        rows: The rows.
        callback: Who asks, for the message.

    Raises:
        TypeError: If rows have several texts, and the method has no ``embed_rows``.
    """
    beside = {encoding.answer_column, encoding.weight}
    texts = [column for column in encoding.columns.values() if column not in beside]
    several = encoding.prompts(rows.select([])) is None and len(texts) > 1
    if several and not hasattr(module, "embed_rows"):
        raise TypeError(
            f"`{callback}` expects a method that embeds rows of the texts {', '.join(texts)} by `embed_rows`, but "
            f"{type(module).__name__} embeds single texts alone"
        )


def row_vectors(module: Any, encoding: Encoding, rows: Dataset) -> Tensor:
    """The gate's encoder's vectors of rows, [n, d], as the method reads them in training.

    Args:
        module: The method; its ``embed_rows`` is asked if it has one, else its ``embed`` of the rows' texts.
        encoding: How rows are written.
        rows: n rows.
    """
    with torch.no_grad():
        if hasattr(module, "embed_rows"):
            by_rows: Tensor = module.embed_rows(rows)
            return by_rows
        by_texts: Tensor = module.embed(encoding.inputs(rows))
        return by_texts
