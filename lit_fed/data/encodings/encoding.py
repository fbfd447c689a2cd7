"""The base class of encodings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from lit_fed.data.columns import column_values, require_column
from lit_fed.data.features import Features

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class Encoding(ABC):
    """How a row becomes token ids and labels.

    Args:
        weight: A column with the weight of each row's loss, at least 0. None: all rows count the
            same.

    Attributes:
        names: The labels' names in the order of their numbers; None where they have none.
        classifies: Whether a row has one label, for models that classify, or one for each token. None: for
            any model.
    """

    optional: ClassVar[frozenset[str]] = frozenset({"weight"})
    names: list[str] | None = None
    classifies: ClassVar[bool | None] = None

    def __init__(self, weight: str | None = None) -> None:
        self.weight = weight

    @property
    @abstractmethod
    def columns(self) -> Mapping[str, str]:
        """The columns it reads, by the setting that names them."""

    @property
    def label_column(self) -> str | None:
        """The column with a row's one label. None: rows have none."""
        return None

    @property
    def answer_column(self) -> str | None:
        """The column with what is to be predicted: a label or a text. None: there is none."""
        return self.label_column

    def prompts(self, rows: Dataset) -> list[str] | None:
        """The texts from which a model generates the rows' answers. None: answers are labels."""
        return None

    def require_columns(self, rows: Dataset, where: str = "") -> None:
        """Raise unless a table has all columns.

        Args:
            rows: The table.
            where: What the table is, for the message.

        Raises:
            ValueError: Naming the first setting whose column is not there.
        """
        for setting, column in self.columns.items():
            try:
                require_column(rows, column, f"data.encoding.{setting}", where)
            except ValueError as error:
                hint = "; set it to null if there is none" if setting in self.optional else ""
                raise ValueError(f"{error}{hint}") from None

    # Not abstract: most encodings have nothing to learn from the table.
    def prepare(self, rows: Dataset) -> None:  # noqa: B027
        """Learn what does not depend on the tokenizer, such as labels.

        Args:
            rows: The whole training table.
        """

    @abstractmethod
    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> Features:
        """Tokenise rows.

        Args:
            rows: N rows, at least one.
            tokenizer: The tokenizer.
            max_length: Tokens that a row may have; longer ones are cut.

        Returns:
            Fields ``input_ids`` and those of the tokenizer and the encoding, of each token or row.

        Raises:
            ValueError: If a value is missing or of a wrong type.
        """

    @abstractmethod
    def check(self, features: Features, num_labels: int | None) -> None:
        """Raise where encoded rows cannot be trained on.

        Args:
            features: The rows, as :meth:`encode` gives them.
            num_labels: Labels that the model knows, if it classifies.

        Raises:
            ValueError: Naming how many rows, and the setting.
        """

    def weights(self, rows: Dataset) -> dict[str, npt.NDArray[np.float32]]:
        """The field ``weight`` [N], if there is one.

        Raises:
            ValueError: If a weight is missing, negative or not finite.
        """
        if self.weight is None:
            return {}
        values = column_values(rows, self.weight)
        bad = [
            value
            for value in values
            if not isinstance(value, int | float) or not 0 <= value < float("inf")
        ]
        if bad:
            raise ValueError(
                f"`data.encoding.weight` is expected to name a column of finite numbers of at "
                f"least 0, but {self.weight!r} has {bad[0]!r} (in all {len(bad)} such rows of "
                f"{len(values)})"
            )
        return {"weight": np.asarray(values, np.float32)}


def column_texts(rows: Dataset, column: str, setting: str, missing: str | None = None) -> list[str]:
    """A column as texts.

    Args:
        rows: The table.
        column: A column of strings or numbers.
        setting: The setting that names the column, for messages.
        missing: What stands for a missing value. None: it is an error.

    Raises:
        ValueError: If a value is missing, or is neither text nor a number.
    """
    values: list[Any] = column_values(rows, column)
    empty = sum(value is None for value in values)
    if empty and missing is None:
        raise ValueError(
            f"`{setting}` names column {column!r}, which has no value in {empty} of {len(values)} "
            f"rows"
        )
    texts = []
    for value in values:
        if value is not None and not isinstance(value, str | int | float):
            raise ValueError(
                f"`{setting}` is expected to name a column of text, but {column!r} has "
                f"{type(value).__name__} {value!r:.60}"
            )
        texts.append(str(value) if value is not None else str(missing))
    return texts


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that pads. Where a tokenizer has none, any will do, as it is masked."""
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if isinstance(token_id, int):
            return token_id
    return 0


def require_tokens(features: Features) -> None:
    """Raise where a row has no token at all.

    Raises:
        ValueError: Naming how many rows.
    """
    if empty := int((features.lengths == 0).sum()):
        raise ValueError(
            f"{empty} of {len(features)} rows have no token to read: their columns of `data.encoding` are empty"
        )
