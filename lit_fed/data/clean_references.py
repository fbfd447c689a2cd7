"""Clean references: the rows that a defence, or an attacker who knows it, is fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets import Dataset

from lit_fed.data.columns import row_ids
from lit_fed.data.sources.source import Source

if TYPE_CHECKING:
    from lit_fed.data.datamodule import FederatedDataModule
    from lit_fed.data.encodings import Encoding
    from lit_fed.data.reader import Reader


def clean_references(
    given: Source | Dataset | None,
    data: FederatedDataModule,
    setting: str,
    answered: bool = False,
    reader: Reader | None = None,
) -> Dataset:
    """The rows of a table, or the public set of the data.

    Args:
        given: The table. None: the public set.
        data: The data.
        setting: The setting that names the table, for messages.
        answered: Whether each row has to say what is to be predicted, for whoever goes by it.
        reader: The model that is to know the rows' labels. None, or one that does not classify: any labels.

    Raises:
        TypeError: If it is no table.
        ValueError: If there are none, a row does not say what is to be predicted, or its label is none of the model's.
    """
    if given is not None:
        if not isinstance(given, Source | Dataset):
            raise TypeError(
                f"`{setting}` is expected to be a table, such as lit_fed.data.JSONLSource, but got {given!r:.80}"
            )
        rows = given.load() if isinstance(given, Source) else given
        if answered:
            try:
                data.encoding.require_columns(rows, setting)
                data.encoding.require_values(rows)
                _require_learnable(data.encoding, rows)
                if reader is not None and reader.classifies:
                    features = data.features(rows, reader.tokenizer)
                    data.encoding.check(features, reader.num_labels)
            except ValueError as error:
                raise ValueError(f"`{setting}`: {error}") from error
        return rows
    public = data.public
    if public is None or (answered and data.public_unanswered):
        lacks = "no public set" if public is None else "public rows without a label"
        raise ValueError(
            f"`{setting}` is expected where the data have no public set{' with labels' if answered else ''}, but got "
            f"null, and there {'is' if public is None else 'are'} {lacks}: give a table such as "
            "lit_fed.data.JSONLSource, or `data.public`"
        )
    return public


def _require_learnable(encoding: Encoding, rows: Dataset) -> None:
    """Raise where a row has nothing to learn from, which an encoding may leave out where tables are loaded."""
    if (said := encoding.learnable(rows)) is None or said[0].all():
        return
    has, lack = said
    raise ValueError(
        f"each row is expected to have {lack}, but {int((~has).sum())} of {len(rows)} have none, the first is row "
        f"{int(row_ids(rows)[int((~has).argmax())])}"
    )
