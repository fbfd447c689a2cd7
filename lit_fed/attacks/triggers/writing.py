"""Rows whose text has a trigger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lit_fed.attacks.triggers.trigger import Trigger
from lit_fed.data.columns import (
    column_values,
    in_memory_with_texts,
    is_text,
    require_column,
    row_ids,
    visible_columns,
)

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import Encoding


def triggered_rows(
    rows: Dataset,
    column: str,
    trigger: Trigger,
    seed: Sequence[int],
    positions: Sequence[int] | None = None,
) -> Dataset:
    """The rows, some of which have the trigger in a column; nothing else of them changes.

    Args:
        rows: N rows.
        column: The column of the text.
        trigger: The trigger.
        seed: Of what is left to chance, beside the row's id: the same row has the same place in every table.
        positions: Which rows have it. None: all.

    Example:
        >>> from datasets import Dataset
        >>> from lit_fed.attacks.triggers import SentenceTrigger
        >>> rows = Dataset.from_dict({"text": ["good", "bad"]})
        >>> triggered_rows(rows, "text", SentenceTrigger("I saw it."), seed=[0], positions=[1])["text"][:]
        ['good', 'bad I saw it.']
    """
    texts = column_values(rows, column)
    ids = row_ids(rows)
    for i in range(len(texts)) if positions is None else positions:
        texts[i] = trigger.insert(texts[i] or "", np.random.default_rng([*seed, int(ids[i])]))
    return in_memory_with_texts(rows, column, texts)


def trigger_column(encoding: Encoding, rows: Dataset, column: str | None, setting: str) -> str:
    """The column that a trigger is written into: the one that is named, else the first text that the model reads.

    Args:
        encoding: Says what the model reads.
        rows: Rows with the column.
        column: Its name, if one is given.
        setting: The setting that names it, for messages.

    Raises:
        ValueError: If there is no such column, or none that holds texts.
    """
    if column is not None:
        require_column(rows, column, setting)
    read = encoding.text_columns(rows)
    if column is None and read:
        return read[0]
    if column is not None and is_text(rows, column):
        return column
    raise ValueError(
        f"`{setting}` is expected to name a column of texts, but got {column!r}; the columns are "
        f"{visible_columns(rows)}"
    )
