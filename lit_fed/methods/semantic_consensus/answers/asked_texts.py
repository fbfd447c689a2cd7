"""Asked texts: what is said to somebody who answers prompts and reads no tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lit_fed.data.columns import column_values

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data.encodings import Encoding


def asked_texts(encoding: Encoding, rows: Dataset) -> list[str]:
    """The prompts of rows; where rows are classified, their texts, a pair's one below the other.

    Args:
        encoding: Which columns are what.
        rows: The rows.
    """
    prompts = encoding.prompts(rows)
    if prompts is not None:
        return prompts
    told = {encoding.answer_column, encoding.weight}
    columns = [column for column in encoding.columns.values() if column not in told]
    return [
        "\n".join(map(str, texts))
        for texts in zip(*(column_values(rows, c) for c in columns), strict=True)
    ]
