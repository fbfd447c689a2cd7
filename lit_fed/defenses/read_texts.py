"""The columns of the texts that a model reads, where a defence does not name them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lit_fed.data.columns import visible_columns

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import Encoding


def read_texts(encoding: Encoding, rows: Dataset, setting: str) -> tuple[str, str | None]:
    """The column of the text that a model reads, and that of the second one, if it reads two.

    Args:
        encoding: Says what the model reads.
        rows: A table with the columns.
        setting: The setting that may name the column, for messages.

    Raises:
        ValueError: If it reads no texts.

    Example:
        >>> from datasets import Dataset
        >>> from lit_fed.data import ClassificationEncoding
        >>> rows = Dataset.from_dict({"note": ["fever"], "urgent": ["yes"]})
        >>> read_texts(ClassificationEncoding("note", None, "urgent"), rows, "STRIP.text")
        ('note', None)
    """
    first, second, *_ = [*encoding.text_columns(rows), None, None]
    if first is None:
        raise ValueError(
            f"`{setting}` is expected to name a column of texts where the model reads none, but got null; the columns "
            f"are {visible_columns(rows)}"
        )
    return first, second
