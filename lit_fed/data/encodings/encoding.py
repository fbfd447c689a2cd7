"""The base class of encodings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from lit_fed.data.columns import (
    column_values,
    in_memory_with_texts,
    is_text,
    number,
    require_column,
    require_values,
    required_values,
    row_ids,
    with_texts,
    written_values,
)
from lit_fed.data.encodings.prompt_tokens import border
from lit_fed.data.features import Features
from lit_fed.data.row_error import RowError

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
        packing: Whether a training batch's sequences hold several rows each.
    """

    optional: ClassVar[frozenset[str]] = frozenset({"weight"})
    names: list[str] | None = None
    classifies: ClassVar[bool | None] = None
    packing: bool = False

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

    def text_columns(self, rows: Dataset) -> list[str]:
        """The columns of texts that a model reads, without what it is to predict, in their order.

        Args:
            rows: A table with the columns.
        """
        beside = {self.answer_column, self.weight}
        read = [column for column in self.columns.values() if column not in beside]
        return [column for column in read if is_text(rows, column)]

    def prompts(self, rows: Dataset) -> list[str] | None:
        """The texts from which a model generates the rows' answers. None: answers are labels."""
        return None

    def inputs(self, rows: Dataset) -> list[str]:
        """What is said to somebody who reads no tokens: the prompts; where rows are classified, their texts.

        Returns:
            A text a row; several columns stand one below the other.
        """
        if (prompts := self.prompts(rows)) is not None:
            return prompts
        beside = {self.answer_column, self.weight}
        columns = [column_values(rows, c) for c in self.columns.values() if c not in beside]
        return ["\n".join(map(str, texts)) for texts in zip(*columns, strict=True)]

    def prompt_ids(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase
    ) -> list[list[int]] | None:
        """The tokens of :meth:`prompts`, as they are in training. None: those of the texts."""
        return None

    def blanks(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        """The blanks before each answer that a model writes behind :meth:`prompt_ids` and are not the answer's."""
        return [border(prompt)[1] for prompt in self.prompts(rows) or []]

    def responses(self, rows: Dataset) -> list[str]:
        """The texts that are learnt: the rows' answers, as they are written.

        Raises:
            ValueError: If the encoding has none, or one is missing.
        """
        if self.prompts(rows.select([])) is None or self.answer_column is None:
            raise ValueError(
                f"`data.encoding` is expected to be one with a response, such as CausalLMEncoding, but got "
                f"{type(self).__name__}"
            )
        return column_texts(rows, self.answer_column, "data.encoding.response")

    def with_responses(self, rows: Dataset, texts: Sequence[str]) -> Dataset:
        """The rows with other texts to learn, and all else as it was.

        Args:
            rows: N rows.
            texts: N texts, in the place of :meth:`responses`.
        """
        self.responses(rows.select([]))
        return in_memory_with_texts(rows, str(self.answer_column), texts)

    def with_hints(self, rows: Dataset, hints: Sequence[str]) -> Dataset:
        """The rows with a text more in each prompt, at the end of what the user says, to ask for :meth:`responses`.

        Args:
            rows: N rows.
            hints: N texts, which begin with the blanks or line breaks between them and what is there.

        Raises:
            ValueError: If the encoding's prompts have no place for one.
        """
        raise ValueError(
            f"`data.encoding` is expected to be one whose prompts can have a text more, such as CausalLMEncoding, but "
            f"got {type(self).__name__}"
        )

    def answers(self, rows: Dataset) -> list[str | None] | None:
        """What is to be predicted, as texts; None of a row without. None: nothing is."""
        if self.answer_column is None:
            return None
        return written_values(rows, self.answer_column, "data.encoding")

    def answered(self, rows: Dataset, like: Dataset) -> tuple[Dataset, frozenset[int]]:
        """Rows of which those that do not say what is to be predicted have something there, to be read like others.

        Args:
            rows: A table as it was loaded, perhaps without the column.
            like: The training table, whose first value is taken.

        Returns:
            The table, and the positions of these rows.
        """
        answer = self.answer_column
        if answer is None:
            return rows, frozenset()
        (given,) = written_values(like.select([0]), answer, "data.encoding")
        if answer not in rows.column_names:
            filled = rows.add_column(answer, [str(given)] * len(rows))
            return filled, frozenset(range(len(rows)))
        values = written_values(rows, answer, "data.encoding")
        without = frozenset(i for i, v in enumerate(values) if v is None or not v.strip())
        if not without:
            return rows, without
        texts = [str(given) if i in without else value for i, value in enumerate(values)]
        return with_texts(rows, answer, texts), without

    def learnable(self, rows: Dataset) -> tuple[npt.NDArray[np.bool_], str] | None:
        """Which rows [N] have something to learn from, and what the others lack. None: all have, or it is an error."""
        return None

    def goes_on(self, rows: Dataset) -> npt.NDArray[np.bool_] | None:
        """Which rows [N] have turns after the last that is learnt, which are not learnt. None: none has."""
        return None

    def stop_ids(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """The tokens that end an answer beside the end of sequence, as they are learnt. Default: none."""
        return []

    def chat_template(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """The chat template that writes the rows and is not the tokenizer's own, for an exported model. None: none."""
        return None

    def digest(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        """A digest of how rows are written for a model, which clients have to agree on. None: they need not."""
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
                if where == "data.public" and column == self.answer_column:
                    hint = "; where a method looks at public prompts alone, `data.public_answered` false does without"
                raise ValueError(f"{error}{hint}") from None

    def require_values(self, rows: Dataset) -> None:
        """Raise where a value that :meth:`encode` needs is missing or of a wrong type.

        Args:
            rows: A table as it was loaded, so that the error can name the place of a row in its file.

        Raises:
            ValueError: A :class:`~lit_fed.data.row_error.RowError` for the first such row of a column.
        """
        if self.label_column is not None:
            required_values(rows, self.label_column, "data.encoding.label")
        self.weights(rows)

    # Not abstract: most encodings have nothing to learn from the table.
    def prepare(self, rows: Dataset) -> None:  # noqa: B027
        """Learn what does not depend on the tokenizer, such as labels.

        Args:
            rows: The whole training table.
        """

    # Not abstract: most rows have no labels with names.
    def order_labels(self, known: Sequence[str], setting: str) -> None:  # noqa: B027
        """Number the labels as a model does that knows them by name, after :meth:`prepare`.

        Args:
            known: The model's names of labels in the order of their numbers.
            setting: The setting that gives the model, for messages.

        Raises:
            ValueError: If the model does not know a label, or the encoding was given another order.
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
        setting = "data.encoding.weight"
        weights = [number(text) for text in written_values(rows, self.weight, setting)]
        bad = [weight is None or not 0 <= weight < float("inf") for weight in weights]
        if any(bad):
            first = bad.index(True)
            row = int(row_ids(rows)[first])
            raise RowError(
                f"`{setting}` is expected to name a column of finite numbers of at "
                f"least 0, but {self.weight!r} has {rows[first][self.weight]!r} in row {row} (in all "
                f"{sum(bad)} such rows of {len(weights)})",
                row,
            )
        return {"weight": np.asarray(weights, np.float32)}


def column_texts(rows: Dataset, column: str, setting: str, missing: str | None = None) -> list[str]:
    """A column as texts, as they are written.

    Args:
        rows: The table.
        column: A column of strings or numbers.
        setting: The setting that names the column, for messages.
        missing: What stands for a missing value. None: it is an error.

    Raises:
        ValueError: If a value is missing, or is neither text nor a number.
    """
    values = written_values(rows, column, setting)
    if missing is None:
        require_values(rows, column, setting, [value is None for value in values])
    return [str(missing) if value is None else value for value in values]


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
