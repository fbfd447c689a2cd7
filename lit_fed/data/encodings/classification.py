"""Texts, or pairs of texts, with one label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from lit_fed.data.columns import column_values, row_ids
from lit_fed.data.encodings.encoding import Encoding, column_texts, padding_id, require_tokens
from lit_fed.data.features import Features

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class ClassificationEncoding(Encoding):
    """A text or a pair of texts, and its label.

    A row that is too long is cut at the end of its longer text.

    Args:
        text: The column of the text.
        text_pair: The column of the second text. None: there is one text.
        label: The column of labels: numbers from 0, or strings. Strings become numbers in their
            sorted order in the training table.
        label_names: The labels in the order of their numbers. If every label of the training table
            is among them, as a string, labels become the positions of their names; else they name
            the numbers. None: those of a ``ClassLabel`` column; else see `label`.
        weight: A column with the weight of each row's loss, at least 0. None: all rows count the
            same.

    Attributes:
        names: The labels' names in the order of their numbers; None where labels are numbers without names.

    >>> from datasets import Dataset
    >>> encoding = ClassificationEncoding("text", text_pair=None)
    >>> rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": ["ham", "spam", "ham"]})
    >>> encoding.prepare(rows)
    >>> encoding.names, encoding.label_ids(rows).tolist()
    (['ham', 'spam'], [0, 1, 0])
    """

    optional: ClassVar[frozenset[str]] = frozenset({"text_pair", "weight"})
    classifies: ClassVar[bool | None] = True

    def __init__(
        self,
        text: str = "english",
        text_pair: str | None = "chinese",
        label: str = "label",
        label_names: list[str] | None = None,
        weight: str | None = None,
    ) -> None:
        super().__init__(weight)
        if label_names is not None and len(set(label_names)) != len(label_names):
            raise ValueError(
                f"`data.encoding.label_names` are expected to differ, but got {label_names}"
            )
        self.text = text
        self.text_pair = text_pair
        self.label = label
        self.label_names = label_names
        self.names = label_names
        self._ids: dict[str, int] | None = None
        self._class_names: list[str] | None = None

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns it reads, by the setting that names them."""
        columns = {
            "text": self.text,
            "text_pair": self.text_pair,
            "label": self.label,
            "weight": self.weight,
        }
        return {setting: column for setting, column in columns.items() if column is not None}

    @property
    def label_column(self) -> str | None:
        """The column of labels."""
        return self.label

    def prepare(self, rows: Dataset) -> None:
        """Number the labels of the whole training table.

        Raises:
            ValueError: If a label is missing, is no number or string, or is not in `label_names`.
        """
        labels = set(self._labels(rows))
        strings = {str(label) for label in labels}
        textual = any(isinstance(label, str) for label in labels)
        names = self.label_names
        self._class_names = getattr(rows.features[self.label], "names", None)
        if names is None and textual:
            names = sorted(strings)
        self.names = self._class_names if names is None else names
        if names is not None and (textual or strings <= set(names)):
            self._ids = {name: i for i, name in enumerate(names)}
        else:
            self._ids = None
        self.label_ids(rows)

    def label_ids(self, rows: Dataset) -> npt.NDArray[np.int64]:
        """The rows' labels as numbers, [N].

        Raises:
            ValueError: If a label is missing, is no number or string, or is not a known one.
        """
        labels = self._labels(rows)
        own = getattr(rows.features[self.label], "names", None)
        if own and self._class_names and own != self._class_names:
            raise ValueError(
                f"`data.encoding.label` is expected to name a column of labels called as in the training table, "
                f"{self._class_names}, but those of {self.label!r} are {own}"
            )
        if self._ids is None:
            if strings := [label for label in labels if isinstance(label, str)]:
                raise ValueError(
                    f"`data.encoding.label` is expected to name a column of numbers as in the "
                    f"training table, but {self.label!r} has {strings[0]!r}"
                )
            return np.asarray(labels, np.int64)
        unknown = sorted({str(label) for label in labels} - set(self._ids))
        if unknown:
            raise ValueError(
                f"`data.encoding.label` names column {self.label!r}, which has labels "
                f"{unknown[:5]}, but the known ones are {list(self._ids)[:20]} (see "
                f"`data.encoding.label_names`)"
            )
        return np.fromiter((self._ids[str(label)] for label in labels), np.int64, len(labels))

    def encode(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int
    ) -> Features:
        """Tokenise rows, see :class:`Encoding`. ``labels`` is [N]."""
        self.require_columns(rows)
        special = tokenizer.num_special_tokens_to_add(pair=self.text_pair is not None)
        if max_length <= special:
            # The tokenizer would not cut at all.
            raise ValueError(
                f"`data.max_length` is expected to be above {special}, the special tokens of the "
                f"model's tokenizer, but got {max_length}"
            )
        labels = self.label_ids(rows)
        texts = column_texts(rows, self.text, "data.encoding.text")
        pairs = None
        if self.text_pair is not None:
            pairs = column_texts(rows, self.text_pair, "data.encoding.text_pair")
        encoded: Mapping[str, Any] = tokenizer(
            texts,
            pairs,
            truncation="longest_first",
            max_length=max_length,
            return_attention_mask=False,
        )
        tokens = {
            name: encoded[name] for name in ("input_ids", "token_type_ids") if name in encoded
        }
        padding = {
            "input_ids": padding_id(tokenizer),
            "token_type_ids": tokenizer.pad_token_type_id,
        }
        return Features(
            tokens, {"labels": labels, "index": row_ids(rows), **self.weights(rows)}, padding
        )

    def check(self, features: Features, num_labels: int | None) -> None:
        """Raise where a label is out of range or a row is empty, see :class:`Encoding`."""
        require_tokens(features)
        labels = features.rows["labels"]
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or (num_labels is not None and high >= num_labels):
            bad = low if low < 0 else high
            row = int(features.rows["index"][int((labels == bad).argmax())])
            limit = "" if num_labels is None else f" and below the model's num_labels, {num_labels}"
            raise ValueError(
                f"`data.encoding.label` is expected to name a column of labels from 0{limit}, but "
                f"{self.label!r} has {bad} in row {row}"
            )

    def _labels(self, rows: Dataset) -> list[int | str]:
        labels: list[int | str] = []
        for value in column_values(rows, self.label):
            if isinstance(value, float) and value.is_integer():
                labels.append(int(value))
            elif isinstance(value, int | str):
                labels.append(value if isinstance(value, str) else int(value))
            else:
                what = "has rows without a label" if value is None else f"has {value!r:.60}"
                raise ValueError(
                    f"`data.encoding.label` is expected to name a column of whole numbers or "
                    f"strings, but {self.label!r} {what}"
                )
        return labels
