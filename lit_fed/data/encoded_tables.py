"""Tables as models read them: encoded once, and what rows and models must agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from lit_fed.data.feature_cache import FeatureCache
from lit_fed.data.known_ids import require_known_ids
from lit_fed.data.packed import packed
from lit_fed.data.tables import naming

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from lit_fed.data.encodings import Encoding
    from lit_fed.data.features import Features
    from lit_fed.data.reader import Reader

# The positions of the usual encoders; 97 % of Dolly's instructions with their answers have no more.
_MAX_LENGTH = 512


class EncodedTables:
    """Tables, tokenised once for each model that reads them and kept.

    Args:
        encoding: How rows are written.
        max_length: Tokens of a row; longer ones are cut. None: as many as all models read, 512 at most.
        pad_to_multiple_of: Pad the length of batches to a multiple of this.
        capacity: How many tables are kept for each model, those used last.
        say: Tells a line, once.
        known: The labels' names in their order, and which model knows them by these. None: no model has been seen.
    """

    def __init__(
        self,
        encoding: Encoding,
        max_length: int | None,
        pad_to_multiple_of: int | None,
        capacity: int,
        say: Callable[[str], None],
        known: tuple[list[str], str] | None = None,
    ) -> None:
        self.encoding = encoding
        self.max_length = max_length
        self.multiple = pad_to_multiple_of or 1
        self.known = known
        self._say = say
        self._capacity = capacity
        self._packed: WeakKeyDictionary[Features, Features] = WeakKeyDictionary()
        self._cache = FeatureCache(encoding, max_length or _MAX_LENGTH, capacity)

    @property
    def longest_row(self) -> int:
        """Tokens that a row may have."""
        return self._cache.max_length

    def __len__(self) -> int:
        """How many tables are kept."""
        return len(self._cache)

    def get(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, packing: bool = False
    ) -> Features:
        """Rows, tokenised.

        Args:
            rows: The rows, at least one.
            tokenizer: The tokenizer.
            packing: Whether several rows may be in one sequence, where the encoding packs them.

        Raises:
            ValueError: If they cannot be encoded.
        """
        features = self._cache.get(rows, tokenizer)
        if packing and self.encoding.packing:
            if features not in self._packed:
                self._packed[features] = packed(features, self.longest_row)
            features = self._packed[features]
        features.pad_to_multiple_of = self.multiple
        features.padding_side = tokenizer.padding_side
        return features

    def encodable(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[bool]:
        """Which of N rows can be encoded and have something to learn; where all can, they are kept.

        Args:
            rows: The rows.
            tokenizer: The tokenizer.
        """

        def reads(encode: Callable[[], Features]) -> bool:
            try:
                self.encoding.check(encode(), None)
            except ValueError:
                return False
            return True

        if not len(rows) or reads(lambda: self._cache.get(rows, tokenizer)):
            return [True] * len(rows)
        parts = (rows.select([i]) for i in range(len(rows)))
        return [
            reads(partial(self.encoding.encode, part, tokenizer, self.longest_row))
            for part in parts
        ]

    def check(self, tables: Iterable[tuple[str, Dataset]], backbones: Mapping[str, Reader]) -> None:
        """Encode all tables for all models, and say what does not fit.

        Args:
            tables: The tables with their names.
            backbones: The models, by the names that errors give them.

        Raises:
            ValueError: See :meth:`FederatedDataModule.check <lit_fed.data.FederatedDataModule.check>`.
        """
        self.fit_to(backbones)
        self._cache.capacity = self._capacity * max(1, len(backbones))
        for name, backbone in backbones.items():
            self._check_kind(name, backbone)
            if self.encoding.packing and not backbone.packs:
                raise ValueError(
                    f"`data.encoding.packing` is expected to be false, since `model.{name}`, a "
                    f"{type(backbone).__name__}, cannot read several rows in one sequence as if each were alone, but "
                    f"got true"
                )
            backbone.end_with(self.encoding.stop_ids(backbone.tokenizer))
            if (template := self.encoding.chat_template(backbone.tokenizer)) is not None:
                backbone.write_with(template)
        cut: Counter[str] = Counter()
        total: Counter[str] = Counter()
        for where, rows in tables:
            for name, backbone in backbones.items():
                whose = f", read by model.{name}" if len(backbones) > 1 else ""
                with naming(f"{where}{whose}"):
                    features = self._check_rows(rows, name, backbone)
                table = where.partition(" (")[0] if where.startswith("data.train") else where
                cut[f"{table}{whose}"] += features.cut
                total[f"{table}{whose}"] += len(rows)
        for table, count in cut.items():
            if count:
                self._say(
                    f"{table}: {count:,} of {total[table]:,} rows have more than {self.longest_row} "
                    f"tokens and are cut (`data.max_length`)"
                )

    def check_labels(self, backbones: Mapping[str, Reader]) -> None:
        """Find out whether other models are for these rows, and change nothing.

        Args:
            backbones: The models, by the names that errors give them.

        Raises:
            ValueError: If a model is of another kind, or for other labels.
        """
        names = self.encoding.names
        for name, reader in backbones.items():
            self._check_kind(name, reader)
            if not reader.classifies:
                continue
            own = list(reader.label_names or names or [])
            if not set(names or []) <= set(own) or (own and names is None):
                raise ValueError(
                    f"`{name}` is expected to have the labels of the data, "
                    f"{names or 'which are numbers'}, but has {own}"
                )
            if len(names or []) > (reader.num_labels or 0):
                raise ValueError(
                    f"`{name}.num_labels` is expected to be at least {len(names or [])}, but is {reader.num_labels}"
                )

    def fit_to(self, backbones: Mapping[str, Reader]) -> None:
        """Let rows have the labels and the length that the models know.

        Args:
            backbones: The models, by the names that errors give them.

        Raises:
            ValueError: If their labels differ, or are not those of the data.
        """
        self._agree_on_labels(backbones)
        if self.max_length is None:
            most = [b.max_tokens for b in backbones.values() if b.max_tokens is not None]
            room = [tokens // self.multiple * self.multiple or tokens for tokens in most]
            self._cache.max_length = min([_MAX_LENGTH, *room])

    def _agree_on_labels(self, backbones: Mapping[str, Reader]) -> None:
        """Number labels as the models that know them by name, and give their names to those that do not."""
        readers = {name: b for name, b in backbones.items() if b.classifies and b.trains}
        known = {name: list(names) for name, b in readers.items() if (names := b.label_names)}
        for name, names in known.items():
            first, wanted = next(iter(known.items()))
            if names != wanted:
                raise ValueError(
                    f"`model.{name}` is expected to know the labels by the names of `model.{first}`, {wanted}, "
                    f"but knows {names}"
                )
        before = self.encoding.names
        if known:
            first, wanted = next(iter(known.items()))
            self.known = (wanted, f"model.{first}")
            self.encoding.order_labels(*self.known)
        if self.encoding.names != before:
            # what was encoded until now has other numbers
            self._cache = FeatureCache(self.encoding, self.longest_row, self._cache.capacity)
        for name, reader in readers.items():
            names, count = self.encoding.names, reader.num_labels or 0
            if names is None:
                continue
            if len(names) > count:
                raise ValueError(
                    f"`model.{name}.num_labels` is expected to be at least {len(names)}, the labels of the data, "
                    f"{names}, but is {count}"
                )
            if len(names) < count:
                self._say(
                    f"`model.{name}` has {count} labels, but the data only {len(names)}, {names}: "
                    f"the others are never right"
                )
            reader.name_labels(names)

    def _check_kind(self, name: str, backbone: Reader) -> None:
        gives, takes = self.encoding.classifies, backbone.classifies
        if None not in (gives, takes) and gives != takes:
            kinds = {True: "one label a row", False: "one label a token"}
            right = "ClassificationEncoding" if takes else "CausalLMEncoding"
            raise ValueError(
                f"`data.encoding` is expected to be a {right}, since `model.{name}` is a "
                f"{type(backbone).__name__}, which learns {kinds[bool(takes)]}, but got a "
                f"{type(self.encoding).__name__}"
            )

    def _check_rows(self, rows: Dataset, name: str, backbone: Reader) -> Features:
        features = self._cache.get(rows, backbone.tokenizer)
        self.encoding.check(features, backbone.num_labels)
        require_known_ids(features.tokens, backbone, f"model.{name}")
        longest, most = int(features.lengths.max()), backbone.max_tokens
        if most is not None and longest <= most < -(-longest // self.multiple) * self.multiple:
            raise ValueError(
                f"`data.pad_to_multiple_of` is expected to leave rows within {most}, the tokens that `model.{name}` "
                f"has positions for, but got {self.multiple}, and a row has {longest} tokens"
            )
        if most is not None and longest > most:
            raise ValueError(
                f"`data.max_length` is expected to be at most {most}, the tokens that `model.{name}` has "
                f"positions for, but is {self.max_length}, and a row has {longest} tokens"
            )
        return features
