"""The data of a federation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader

from lit_fed.data.bucketing import LengthBucketSampler, longest_first
from lit_fed.data.client_data import ClientData
from lit_fed.data.client_groups import grouped, require_groups
from lit_fed.data.columns import number_rows, require_column, row_ids
from lit_fed.data.division import Division, divide
from lit_fed.data.embedded.generator import Split
from lit_fed.data.embedded_mistakes import EmbeddedMistakes
from lit_fed.data.encoded_tables import EncodedTables
from lit_fed.data.encodings import ClassificationEncoding, Encoding
from lit_fed.data.features import Features, collated
from lit_fed.data.partition_table import partition_table
from lit_fed.data.partitioners import IIDPartitioner, Partitioner
from lit_fed.data.reader import PlainReader, Reader
from lit_fed.data.row_error import located
from lit_fed.data.sources import ClientFiles, Source
from lit_fed.data.table_names import TableName, table_names
from lit_fed.data.tables import (
    TASK,
    Tables,
    is_of_clients,
    load_tables,
    place_in,
    rows_of_tasks,
)
from lit_fed.limits import (
    require_at_least,
    require_fraction,
    require_instance,
    require_none_or_at_least,
)

# Written with `not`, as jsonargparse runs plain `if TYPE_CHECKING` blocks: it would take a second
# to import datasets for --help, and offer a Dataset, which YAML cannot give, as a table.
if not TYPE_CHECKING:
    Table = Source
else:
    from datasets import Dataset
    from rich.table import Table as RichTable
    from transformers import PreTrainedTokenizerBase

    Table: TypeAlias = Source | Dataset

_EMBEDDED_TESTS: tuple[Split, ...] = ("test", "unseen_names")
_SPARE_CAPACITY = 256

Batch = dict[str, Tensor]


class FederatedDataModule(LightningDataModule):
    """Clients, public set, validation and test of a federation.

    Batches are dicts of ``input_ids``, ``attention_mask`` [B, L] (and ``token_type_ids`` where the
    tokenizer has them), ``labels`` [B] for classification or [B, L] for language models, ``index``
    [B] (position of the row in its table, whatever the order; of a public row, in the public set)
    and, where the encoding names a column of weights, ``weight`` [B].

    Args:
        train: The training table, which is divided among the clients. Or, where these are separate already, a table
            of each by its name, or :class:`ClientFiles`, a file of each: `partitioner` and `num_clients`
            are then left out. None: the embedded translations
            (:class:`EmbeddedMistakes`), drawn by `seed`, where `validation`, `test` and `public` default to their
            splits.
        validation: Rows for validation. None: carved off `train`.
        test: Rows for tests, or several tables by name.
        public: The public set. None: carved off `train`, if `public_size` is not 0.
        encoding: How rows become token ids and labels. None: as fits the embedded translations.
        partitioner: How rows are divided among clients. None: evenly.
        num_clients: How many clients there are. None: as many as `train` names, or as there are values
            in the column of a :class:`NaturalPartitioner`; else 10.
        batch_size: Rows of a training batch.
        eval_batch_size: Rows of a batch when rows come in order.
        max_length: Tokens of a row; longer ones are cut, and how many there are is said once for each set of rows.
            None: 512, or what the model has positions for, if that is less. As a batch is as long as its longest
            row, a large number costs nothing where rows are short.
        validation_fraction: Part of `train` that is carved off where `validation` is None.
        public_size: Rows of `train` that are carved off where `public` is None.
        public_answered: Whether each public row has to say what is to be predicted. False: where a row does not, or
            there is no such column, it has one of the training table, so that it is for a method that looks at the
            prompts alone, such as :class:`~lit_fed.SemanticConsensus`.
        client_validation_fraction: Part of its own rows that each client holds out.
        pad_to_multiple_of: Pad the length of batches to a multiple of this.
        bucketing: Whether rows of a batch are of similar length, in training and evaluations.
        num_workers: Processes that load batches. Batches take microseconds, so 0 is mostly best.
        seed: Of carving, partition and the stock Trainer's shuffling. None: that of Lightning's
            ``seed_everything``, else 0.
        tasks: Only rows with these values of the column ``task``, in all tables. None: all. Where
            the trainer has ``rounds_per_task``, the clients learn them in this order.
        pool_clients: One client has the rows that all of these clients would have: what they could learn in one place.
        client_groups: Names of clients by a name for them, such as ``{weak: [client-0]}``. The clients' figures are
            then reported of each group as well, as in ``clients/weak/test/accuracy/mean``; who is in none is in
            ``others``. A single client that has all rows is in no group.

    Raises:
        TypeError: If the encoding or the partitioner is a class, or something else than one.
        ValueError: If a number is out of range, or settings exclude each other.

    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"text": list("abcdefghij"), "label": [0, 1] * 5})
    >>> encoding = ClassificationEncoding("text", text_pair=None)
    >>> data = FederatedDataModule(rows, encoding=encoding, num_clients=3)
    >>> data.setup()
    >>> [(client.id, len(client.rows)) for client in data.clients], len(data.validation)
    ([('client-0', 3), ('client-1', 3), ('client-2', 3)], 1)
    >>> wards = {"ward-a": rows.select(range(4)), "ward-b": rows.select(range(4, 10))}
    >>> data = FederatedDataModule(wards, encoding=encoding, validation_fraction=0)
    >>> data.setup()
    >>> [(client.id, len(client.rows)) for client in data.clients]
    [('ward-a', 4), ('ward-b', 6)]
    """

    def __init__(
        self,
        train: Table | ClientFiles | dict[str, Table] | None = None,
        validation: Table | None = None,
        test: Table | dict[str, Table] | None = None,
        public: Table | None = None,
        encoding: Encoding | None = None,
        partitioner: Partitioner | None = None,
        num_clients: int | None = None,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        max_length: int | None = None,
        validation_fraction: float = 0.1,
        public_size: int = 0,
        public_answered: bool = True,
        client_validation_fraction: float = 0.0,
        pad_to_multiple_of: int | None = None,
        bucketing: bool = True,
        num_workers: int = 0,
        seed: int | None = None,
        tasks: list[str] | None = None,
        pool_clients: bool = False,
        client_groups: dict[str, list[str]] | None = None,
    ) -> None:
        super().__init__()
        for setting, value, least in (
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("public_size", public_size, 0),
            ("num_workers", num_workers, 0),
        ):
            require_at_least(f"data.{setting}", value, least)
        for setting, count, least in (
            ("num_clients", num_clients, 1),
            ("max_length", max_length, 1),
            ("pad_to_multiple_of", pad_to_multiple_of, 1),
            ("seed", seed, 0),
        ):
            require_none_or_at_least(f"data.{setting}", count, least)
        require_instance("data.encoding", encoding, Encoding)
        require_instance("data.partitioner", partitioner, Partitioner)
        require_fraction("data.validation_fraction", validation_fraction)
        require_fraction("data.client_validation_fraction", client_validation_fraction)
        if public is not None and public_size:
            raise ValueError(
                f"`data.public_size` is expected to be 0 where `data.public` is given, but got "
                f"{public_size}"
            )
        separate = is_of_clients(train)
        if separate and partitioner is not None:
            raise ValueError(
                f"`data.partitioner` is expected to be null where `data.train` names its clients, but got "
                f"{type(partitioner).__name__}"
            )
        self._tables = (train, validation, public, test)
        self.encoding = ClassificationEncoding() if encoding is None else encoding
        self.partitioner = IIDPartitioner() if partitioner is None and not separate else partitioner
        self.num_clients = num_clients
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.max_length = max_length
        self.validation_fraction = validation_fraction
        self.public_size = public_size
        self.public_answered = public_answered
        self.client_validation_fraction = client_validation_fraction
        self.pad_to_multiple_of = pad_to_multiple_of
        self.bucketing = bucketing
        self.num_workers = num_workers
        self.seed = seed
        self.tasks = tasks
        self.pool_clients = pool_clients
        self.client_groups = require_groups(client_groups or {})
        self._division: Division | None = None
        self._unanswered: Mapping[str, frozenset[int]] = {}
        self._said: set[str] = set()
        self._encoded: EncodedTables

    @classmethod
    def from_datasets(
        cls,
        train_dataset: Any = None,
        val_dataset: Any = None,
        test_dataset: Any = None,
        predict_dataset: Any = None,
        batch_size: int = 32,
        num_workers: int = 0,
        **datamodule_kwargs: Any,
    ) -> Self:
        """A data module of tables, by the names that Lightning gives them.

        Args:
            train_dataset: As `train`, which has no default here.
            val_dataset: As `validation`.
            test_dataset: As `test`.
            predict_dataset: None: what is predicted are the tests.
            batch_size: As there.
            num_workers: As there.
            **datamodule_kwargs: Further settings of the class.

        Raises:
            TypeError: If `train_dataset` is None, or `predict_dataset` is not.
        """
        if train_dataset is None or predict_dataset is not None:
            raise TypeError(
                f"from_datasets of {cls.__name__} expects `train_dataset`, and what is to be predicted as "
                f"`test_dataset`, but got train_dataset={type(train_dataset).__name__} and "
                f"predict_dataset={type(predict_dataset).__name__}"
            )
        return cls(
            train=train_dataset,
            validation=val_dataset,
            test=test_dataset,
            batch_size=batch_size,
            num_workers=num_workers,
            **datamodule_kwargs,
        )

    # ---------------------------------------------------------------- tables

    def setup(self, stage: str | None = None) -> None:
        """Load, carve and divide all tables, once.

        Args:
            stage: Of ``predict``, the tests need not say what is to be predicted. Else ignored: every stage may
                need every table.

        Raises:
            FileNotFoundError: If a table is not there.
            TypeError: If something else than a table is given.
            ValueError: If a table lacks rows or a column, or a client is left without rows.
        """
        answered = stage != "predict"
        if self._division is not None and not (answered and self._unanswered):
            return
        self._seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed
        tables = self._load(answered)
        known = None if self._division is None else self._encoded.known
        if known is not None:
            self.encoding.order_labels(*known)
        for line in tables.left_out:
            self._say_once(line)
        if self._division is None:
            self._asked_clients = self.num_clients
        named, count = tables.clients, self._asked_clients
        if named is not None and count not in (None, len(named)):
            raise ValueError(
                f"`data.num_clients` is expected to be null where `data.train` names its clients, which are "
                f"{len(named)}, but got {count}"
            )
        with located(place_in(self._tables[0])):
            division = divide(
                tables.train,
                named or self.partitioner or IIDPartitioner(),
                count,
                self.validation_fraction if tables.validation is None else 0.0,
                self.public_size if tables.public is None else 0,
                self.client_validation_fraction,
                self._seed,
                self.pool_clients,
            )
        self._validation = division.validation if tables.validation is None else tables.validation
        public = division.public if tables.public is None else tables.public
        # What is said of public rows is kept by their ids, wherever they come from.
        self._public = None if public is None else number_rows(public)
        ids = [] if public is None else row_ids(public).tolist()
        silent = tables.public_unanswered
        self._public_unanswered = frozenset(n for n, id in enumerate(ids) if id in silent)
        self._tests, self._unanswered = tables.tests, tables.unanswered
        self.num_clients = len(division.clients)
        # The federation's own tables stay; what methods make of them comes and goes.
        held = 2 * self.num_clients + len(tables.tests)
        self._encoded = EncodedTables(
            self.encoding,
            self.max_length,
            self.pad_to_multiple_of,
            held * (1 + len(self.tasks or ())) + _SPARE_CAPACITY,
            self._say_once,
            known,
        )
        self._clients_in: dict[str, list[ClientData]] = {}
        groups = {} if self.pool_clients else self.client_groups
        self._division = replace(division, clients=grouped(division.clients, groups))

    def _load(self, answered: bool) -> Tables:
        train, validation, public, test = self._tables
        if train is not None:
            return load_tables(
                train,
                validation,
                public,
                test,
                self.encoding,
                self.tasks,
                answered,
                self.public_answered,
            )
        own = EmbeddedMistakes("public", self.public_size or None) if public is None else public
        return load_tables(
            EmbeddedMistakes("train", seed=self._seed),
            EmbeddedMistakes("validation") if validation is None else validation,
            own,
            {name: EmbeddedMistakes(name) for name in _EMBEDDED_TESTS} if test is None else test,
            self.encoding,
            self.tasks,
            answered,
            self.public_answered,
        )

    @property
    def table_names(self) -> dict[str, TableName]:
        """What the tables are called, by what they are for, without the folders in which they lie."""
        train, validation, public, test = self._tables
        if train is None:
            train = EmbeddedMistakes("train")
            if test is None:
                test = {name: EmbeddedMistakes(name) for name in _EMBEDDED_TESTS}
        given = {"train": train, "validation": validation, "public": public, "test": test}
        return table_names(given)

    @property
    def clients(self) -> list[ClientData]:
        """What the clients hold."""
        return self._ready().clients

    def clients_in(self, task: str) -> list[ClientData]:
        """What the clients hold of one task, in the order of :attr:`clients`; some may have no rows.

        Args:
            task: One of ``tasks``.
        """
        self._ready()
        if task not in self._clients_in:
            self._clients_in[task] = [client.of_task(task) for client in self.clients]
        return self._clients_in[task]

    def client_data(self, id: str, task: str | None = None) -> ClientData:
        """What a client holds.

        Args:
            id: The client's name.
            task: Of this task alone. None: all of it.

        Raises:
            KeyError: If there is no such client.
        """
        clients = self.clients if task is None else self.clients_in(task)
        for client in clients:
            if client.id == id:
                return client
        raise KeyError(f"no client {id!r}: there are {', '.join(c.id for c in clients)}")

    def of_task(self, rows: Dataset, task: str) -> Dataset:
        """Those of the rows that belong to a task, of any of the tables.

        Raises:
            ValueError: If they have no column ``task``.
        """
        require_column(rows, TASK, "data.tasks")
        return rows_of_tasks(rows, [task])

    @property
    def pooled(self) -> Dataset:
        """All clients' rows together, as a stock Trainer trains on them."""
        return self._ready().pooled

    @property
    def validation(self) -> Dataset | None:
        """The server's validation rows, if there are any."""
        self._ready()
        return self._validation

    @property
    def public(self) -> Dataset | None:
        """The public set, if there is one."""
        self._ready()
        return self._public

    @property
    def public_unanswered(self) -> frozenset[int]:
        """The ids of public rows that do not say what is to be predicted."""
        self._ready()
        return self._public_unanswered

    @property
    def tests(self) -> dict[str, Dataset]:
        """The tests by name; one without a name is ``test``."""
        self._ready()
        return self._tests

    @property
    def unanswered(self) -> Mapping[str, frozenset[int]]:
        """The ids of rows that do not say what is to be predicted, of the tests that have such.

        Set up for ``predict`` alone there are any.
        """
        self._ready()
        return self._unanswered

    @property
    def longest_row(self) -> int:
        """Tokens that a row may have; what is longer is cut. After :meth:`check` as many as the models read."""
        self._ready()
        return self._encoded.longest_row

    def partition_table(self) -> RichTable:
        """Who holds what: clients, rows and rows of each label, to print."""
        label = self.encoding.label_column or getattr(self.partitioner, "column", None)
        return partition_table(self.clients, label)

    # ---------------------------------------------------------------- batches

    def dataloader(
        self,
        rows: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        seed: int | None = None,
        batch_size: int | None = None,
        packing: bool = False,
        longest_of: int | None = None,
    ) -> DataLoader[Batch]:
        """Batches of rows; they are tokenised once and kept.

        Args:
            rows: The rows, at least one.
            tokenizer: The tokenizer.
            seed: Shuffle by this seed; each epoch by another order, after ``sampler.set_epoch``.
                None: in order.
            batch_size: Rows of a batch. None: `batch_size` where rows are shuffled, else
                `eval_batch_size`.
            packing: Whether the rows are a client's training rows, several of which may be in one sequence where
                `encoding` packs them. Such batches have no ``index``.
            longest_of: Of the first so many rows the longest first, so that little is padding; in order without
                `bucketing`. None: all rows in order.

        Raises:
            ValueError: If there are no rows, or they cannot be encoded.
        """
        features = self.features(rows, tokenizer, packing)
        size = batch_size or (self.eval_batch_size if seed is None else self.batch_size)
        sampler: Iterable[int] | None = None
        if seed is not None:
            sampler = LengthBucketSampler(features.lengths, size, seed, self.bucketing)
        elif longest_of is not None:
            sampler = longest_first(features.lengths[:longest_of], self.bucketing)
        return DataLoader(
            features,
            batch_size=size,
            sampler=sampler,
            collate_fn=collated,
            num_workers=self.num_workers,
            # Without one, each iteration would draw from the global random state.
            generator=torch.Generator().manual_seed(seed or 0),
        )

    def features(
        self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, packing: bool = False
    ) -> Features:
        """Rows, tokenised once and kept.

        Args:
            rows: The rows, at least one.
            tokenizer: The tokenizer.
            packing: As for :meth:`dataloader`.

        Raises:
            ValueError: If there are no rows, or they cannot be encoded.
        """
        self._ready()
        if not len(rows):
            raise ValueError(
                "`rows` of dataloader are expected to be one or more, but there are none"
            )
        return self._encoded.get(rows, tokenizer, packing)

    def encodable(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[bool]:
        """Which rows can be encoded and have something to learn; where all can, they are kept as by :meth:`dataloader`.

        Args:
            rows: N rows, for instance of which a method has changed the texts.
            tokenizer: The tokenizer.
        """
        self._ready()
        return self._encoded.encodable(rows, tokenizer)

    def check(self, backbones: Mapping[str, Reader]) -> None:
        """Find everything that can be wrong before training: encodes all rows for all models, and keeps them.

        Args:
            backbones: The models that read the rows, by the names that errors give them.

        Raises:
            ValueError: If the encoding is for models of another kind, a label is out of range, a row has
                nothing to learn from or too many tokens, or a value is missing or of a wrong type.
        """
        if self._division is None:
            self.setup()
        self._encoded.check(self._parts(), backbones)

    def check_labels(self, backbones: Mapping[str, Reader]) -> None:
        """Find out whether other models than those of :meth:`check` are for these rows, and change nothing.

        Args:
            backbones: The models, by the names that errors give them.

        Raises:
            ValueError: If a model is of another kind, or for other labels.
        """
        self._encoded.check_labels(backbones)

    def _say_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            rank_zero_info(message)

    def train_dataloader(self) -> DataLoader[Batch]:
        """All clients' rows together, for a stock Trainer."""
        self.check(self._stock_readers())
        return self.dataloader(self.pooled, self._tokenizer(), self._seed, packing=True)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """The validation rows, for a stock Trainer."""
        if self.validation is None:
            return []
        self._encoded.fit_to(self._stock_readers())
        return self.dataloader(self.validation, self._tokenizer())

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """The tests in their order, for a stock Trainer."""
        self._encoded.fit_to(self._stock_readers())
        return [self.dataloader(rows, self._tokenizer()) for rows in self.tests.values()]

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """The tests in their order, for a stock Trainer."""
        return self.test_dataloader()

    def _stock_readers(self) -> Mapping[str, Reader]:
        """The models of a stock Trainer's module."""
        module = self.trainer.lightning_module if self.trainer else None
        backbones: Mapping[str, Reader] | None = getattr(module, "backbones", None)
        if not backbones:
            one = getattr(module, "backbone", None)
            labels, most = (getattr(one, name, None) for name in ("num_labels", "max_tokens"))
            backbones = {"backbone": PlainReader(self._tokenizer(), labels, most)}
        return backbones

    # ---------------------------------------------------------------- inside

    def _ready(self) -> Division:
        if self._division is None:
            raise RuntimeError("FederatedDataModule has no data yet: call setup() first")
        return self._division

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        module = self.trainer.lightning_module if self.trainer is not None else None
        tokenizer: PreTrainedTokenizerBase | None = getattr(module, "tokenizer", None)
        if tokenizer is None:
            raise TypeError(
                f"FederatedDataModule takes the tokenizer from the module's attribute `tokenizer`, "
                f"but {type(module).__name__} has none"
            )
        return tokenizer

    def _parts(self) -> Iterator[tuple[str, Dataset]]:
        """All disjoint tables, with what they are."""
        for client in self._ready().clients:
            yield f"data.train ({client.id})", client.rows
            if client.validation is not None:
                yield f"data.train (held out by {client.id})", client.validation
        if self._public is not None:
            yield "data.public", self._public
        if self._validation is not None:
            yield "data.validation", self._validation
        for name, rows in self._tests.items():
            yield f"data.test ({name})", rows
