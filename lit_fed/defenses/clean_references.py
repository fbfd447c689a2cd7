"""Clean references: the rows that a defence of rows is fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

    from lit_fed.data import FederatedDataModule
    from lit_fed.data.sources.source import Source


def clean_references(source: Source | None, data: FederatedDataModule, setting: str) -> Dataset:
    """The rows of a table, or the public set of the data.

    Args:
        source: The table. None: the public set.
        data: The data.
        setting: The setting that names the table, for messages.

    Raises:
        ValueError: If there are none.
    """
    references = data.public if source is None else source.load()
    if references is None:
        raise ValueError(
            f"`{setting}` is expected where the data have no public set, but got null: give a table such as "
            "lit_fed.data.JSONLSource, or `data.public`"
        )
    return references
