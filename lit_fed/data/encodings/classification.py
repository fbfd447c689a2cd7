"""Texts, or pairs of texts, with one label."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from lit_fed.data.columns import in_written_order, required_values, row_ids
from lit_fed.data.encodings.encoding import Encoding, column_texts, padding_id, require_tokens
from lit_fed.data.encodings.prompt_tokens import make_typed_unknown
from lit_fed.data.features import Features
from lit_fed.data.row_error import RowError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

# A number of a class; 1.0 is what other programs make of 1 in a column where a value is missing.
_WHOLE: Final = re.compile(r"(0|-?[1-9][0-9]{0,17})(\.0)?")


class ClassificationEncoding(Encoding):
    """A text or a pair of texts, and its label.

    A row that is too long is cut at the end of its longer text.

    Args:
        text: The column of the text.
        text_pair: The column of the second text. None: there is one text.
        label: The column of labels, which go by how they are written, whatever file they come from. If every
            label of the training table is a whole number, they are the classes' numbers, from 0; else they are
            the classes' names, numbered in their order, or in that of the model if it knows its classes by name.
        label_names: The labels in the order of their numbers, which has to be the model's if it knows its
            classes by name. If every label of the training table is among them, labels become the positions of
            their names; else they name the numbers. None: those of a ``ClassLabel`` column; else see `label`.
        weight: A column with the weight of each row's loss, at least 0. None: all rows count the
            same.
        split_special_tokens: Whether special tokens such as ``[SEP]`` that stand in a text are plain text.
            False: they are read as special tokens.

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
        split_special_tokens: bool = True,
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
        self.split_special_tokens = split_special_tokens
        self.names = label_names
        self._ids: dict[str, int] | None = None
        self._classes: list[str] | None = None

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
        classes: list[str] | None = getattr(rows.features[self.label], "names", None)
        whole = all(map(_WHOLE.fullmatch, labels))
        names = self.label_names or classes
        if names is None and not whole:
            names = in_written_order(labels)
        self.names, self._classes = names, classes
        by_name = names is not None and (labels <= set(names) or not (whole or classes))
        self._ids = {name: i for i, name in enumerate(names or [])} if by_name else None
        self.label_ids(rows)

    def order_labels(self, known: Sequence[str], setting: str) -> None:
        """Number the labels as a model does, see :class:`Encoding`."""
        names = self.names or []
        agree = names == list(known[: len(names)])
        if not agree and (self.label_names is not None or not set(names) <= set(known)):
            own = "data.encoding.label_names"
            where = f"`{own}` is" if self.label_names is not None else f"column {self.label!r} has"
            raise ValueError(
                f"the labels of the data are expected to be those of `{setting}`, {list(known)}, but {where} "
                f"{names}: name them alike, or give the model other names by `{setting}.label_names`"
            )
        if self._ids is not None:
            self._ids = {name: i for i, name in enumerate(known)}
        self.names = list(known)

    def require_values(self, rows: Dataset) -> None:
        """Raise where a label, a text or a weight is missing, see :class:`Encoding`."""
        super().require_values(rows)
        column_texts(rows, self.text, "data.encoding.text")
        if self.text_pair is not None:
            column_texts(rows, self.text_pair, "data.encoding.text_pair")

    def label_ids(self, rows: Dataset) -> npt.NDArray[np.int64]:
        """The rows' labels as numbers, [N].

        Raises:
            ValueError: If a label is missing, is no number or string, or is not a known one.
        """
        labels = self._labels(rows)
        ids = self._ids
        if ids is None:
            # numbers are the training table's; a table with the same classes in another order goes by their names
            classes = getattr(rows.features[self.label], "names", None) or []
            named = self._classes or self.names or []
            apart = bool(classes) and set(classes).isdisjoint(named)
            ids = {name: i for i, name in enumerate(classes if apart else named)}
            ids |= {
                label: int(label.removesuffix(".0"))
                for label in set(labels) - ids.keys()
                if _WHOLE.fullmatch(label)
            }
        if unknown := set(labels) - ids.keys():
            position = next(i for i, label in enumerate(labels) if label in unknown)
            row = int(row_ids(rows)[position])
            known = "whole numbers, as in the training table"
            if self._ids is not None:
                known = f"{list(ids)[:20]} (see `data.encoding.label_names`)"
            raise RowError(
                f"`data.encoding.label` names column {self.label!r}, which has labels "
                f"{in_written_order(unknown)[:5]}, the first in row {row}, but the known ones are {known}",
                row,
            )
        return np.fromiter((ids[label] for label in labels), np.int64, len(labels))

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
        settings: dict[str, Any] = {
            "return_attention_mask": False,
            "split_special_tokens": self.split_special_tokens,
            "verbose": False,
        }
        encoded: Mapping[str, Any] = tokenizer(
            texts,
            pairs,
            truncation="longest_first",
            max_length=max_length,
            return_special_tokens_mask=True,
            **settings,
        )
        if self.split_special_tokens:
            both = (
                texts if pairs is None else [f"{a} {b}" for a, b in zip(texts, pairs, strict=True)]
            )
            make_typed_unknown(tokenizer, both, encoded)
        cut = 0
        full = [i for i, row in enumerate(encoded["input_ids"]) if len(row) >= max_length]
        if full:
            second = None if pairs is None else [pairs[i] for i in full]
            whole: Mapping[str, Any] = tokenizer([texts[i] for i in full], second, **settings)
            cut = sum(len(row) > max_length for row in whole["input_ids"])
        tokens = {
            name: encoded[name] for name in ("input_ids", "token_type_ids") if name in encoded
        }
        padding = {
            "input_ids": padding_id(tokenizer),
            "token_type_ids": tokenizer.pad_token_type_id,
        }
        return Features(
            tokens, {"labels": labels, "index": row_ids(rows), **self.weights(rows)}, padding, cut
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
                f"{self.label!r} has {bad} in row {row}; numbers that are names, such as stars, are listed by "
                '`data.encoding.label_names`, as in ["1", "2"]'
            )

    def _labels(self, rows: Dataset) -> list[str]:
        return required_values(rows, self.label, "data.encoding.label")
