import os
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict
from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from lit_fed.data import (
    CausalLMEncoding,
    ClassificationEncoding,
    ClientFiles,
    CSVSource,
    DirichletPartitioner,
    FederatedDataModule,
    NaturalPartitioner,
)
from lit_fed.data.columns import ROW_ID, select_rows
from lit_fed.data.reader import PlainReader

LETTERS = "abcdefghijklmnopqrstuvwxyz"
ROWS = Dataset.from_dict(
    {
        "text": [" ".join(LETTERS[i % 26] for i in range(k, k + 1 + k % 7)) for k in range(100)],
        "label": [k % 2 for k in range(100)],
        "author": [LETTERS[k % 5] for k in range(100)],
    }
)
TEXT = ClassificationEncoding("text", text_pair=None)


def module(train: Dataset = ROWS, **settings: object) -> FederatedDataModule:
    data = FederatedDataModule(train, **{"encoding": TEXT, "num_clients": 4, "seed": 0, **settings})  # type: ignore[arg-type]
    data.setup()
    return data


def test_clients_public_and_validation_do_not_overlap() -> None:
    data = module(public_size=20, client_validation_fraction=0.2)
    assert data.validation is not None
    assert data.public is not None
    pieces = [data.validation]
    for client in data.clients:
        assert client.validation is not None
        pieces += [client.rows, client.validation]
    ids = [row for piece in pieces for row in piece[ROW_ID]]
    assert len(set(ids)) == len(ids) == 80
    # Public rows have ids of their own.
    assert data.public[ROW_ID][:] == list(range(20))
    rest = ROWS.select(sorted(set(range(100)) - set(ids)))
    assert data.public["text"][:] == rest["text"][:]
    assert len(data.validation) == 10


def test_public_prompts_without_answers_are_said_to_be_possible() -> None:
    prompts = ROWS.select(range(9)).remove_columns("label")
    with pytest.raises(
        ValueError, match=r"got 'label'; .*`data\.public_answered` false does without"
    ):
        module(public=prompts)
    data = module(public=prompts, public_answered=False)
    assert data.public is not None
    assert data.public["text"][:] == prompts["text"][:]
    with pytest.raises(
        ValueError, match=r"`data\.encoding\.text` .*got 'text'; its columns are \['label'"
    ) as error:
        module(public=ROWS.remove_columns("text"))
    assert "public_answered" not in str(error.value)


def test_a_file_with_another_delimiter_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text;label\na b;0\nc d;1\n")
    with pytest.raises(
        ValueError, match=r"columns are \['text;label'\], .* with another `delimiter`\?"
    ):
        FederatedDataModule(CSVSource(str(path)), encoding=TEXT).setup()
    data = FederatedDataModule(
        CSVSource(str(path), delimiter=";"), encoding=TEXT, num_clients=1, validation_fraction=0
    )
    data.setup()
    assert data.clients[0].rows["text"][:] == ["a b", "c d"]


def test_given_tables_are_not_carved() -> None:
    data = module(
        validation=ROWS.select(range(7)),
        public=ROWS.select(range(3)),
        test={"new": ROWS.select([1])},
    )
    assert data.validation is not None
    assert data.public is not None
    assert (len(data.validation), len(data.public)) == (7, 3)
    assert sum(len(client.rows) for client in data.clients) == 100
    assert {name: len(rows) for name, rows in data.tests.items()} == {"new": 1}


def test_setup_again_keeps_everything() -> None:
    data = module()
    clients = data.clients
    data.setup("test")
    assert data.clients is clients


@pytest.mark.parametrize(("environment", "seed"), [(None, 0), ("5", 5)])
def test_the_seed_is_that_of_lightning(
    monkeypatch: pytest.MonkeyPatch, environment: str | None, seed: int
) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    if environment is not None:
        monkeypatch.setitem(os.environ, "PL_GLOBAL_SEED", environment)
    assert module(seed=None).clients[0].rows[:] == module(seed=seed).clients[0].rows[:]
    assert module(seed=9).clients[0].rows[:] != module(seed=seed).clients[0].rows[:]


def test_row_ids_survive_shuffling(wordpiece: PreTrainedTokenizerFast) -> None:
    data = module()
    rows = data.clients[2].rows
    seen = {}
    for batch in data.dataloader(rows, wordpiece, seed=3, batch_size=4):
        for index, ids, mask in zip(
            batch["index"], batch["input_ids"], batch["attention_mask"], strict=True
        ):
            seen[int(index)] = wordpiece.decode(ids[mask == 1], skip_special_tokens=True)
    assert sorted(seen) == list(rows[ROW_ID])
    assert all(text == ROWS[index]["text"] for index, text in seen.items())


def test_order_and_batch_sizes(wordpiece: PreTrainedTokenizerFast) -> None:
    data = module(batch_size=8, eval_batch_size=50)
    rows = data.clients[0].rows

    def order(seed: int | None = None, batch_size: int | None = None) -> list[list[int]]:
        return [b["index"].tolist() for b in data.dataloader(rows, wordpiece, seed, batch_size)]

    assert order() == [list(rows[ROW_ID])]
    assert [len(batch) for batch in order(1)] == [8, 8, 7]
    assert [len(batch) for batch in order(None, 20)] == [20, 3]
    assert order(1) == order(1) != order(2)


def test_loading_leaves_the_global_random_state_alone(wordpiece: PreTrainedTokenizerFast) -> None:
    data = module()
    before = torch.get_rng_state()
    for seed in (None, 1):
        list(data.dataloader(data.clients[0].rows, wordpiece, seed))
    assert torch.equal(before, torch.get_rng_state())


def test_rows_that_a_method_made(wordpiece: PreTrainedTokenizerFast) -> None:
    data = module()
    own = Dataset.from_dict({"text": ["a b"], "label": [1]})
    (batch,) = data.dataloader(own, wordpiece)
    assert batch["index"].tolist() == [0]
    changed = data.clients[0].rows.map(
        lambda row: {"label": 1 - row["label"]}, load_from_cache_file=False
    )
    (flipped,) = data.dataloader(changed, wordpiece)
    (original,) = data.dataloader(data.clients[0].rows, wordpiece)
    assert torch.equal(flipped["labels"], 1 - original["labels"])
    assert torch.equal(flipped["index"], original["index"])
    with pytest.raises(ValueError, match=r"`rows` of dataloader are expected to be one or more"):
        data.dataloader(select_rows(own, []), wordpiece)


def test_padding_to_a_multiple(wordpiece: PreTrainedTokenizerFast) -> None:
    data = module(pad_to_multiple_of=8)
    widths = {
        b["input_ids"].shape[1] for b in data.dataloader(ROWS, wordpiece, seed=0, batch_size=4)
    }
    assert widths == {8, 16}


def read_by(*settings: Any) -> dict[str, PlainReader]:
    return {"backbone": PlainReader(*settings)}


def test_check_finds_what_is_wrong_wherever_it_is(
    wordpiece: PreTrainedTokenizerFast, bpe: PreTrainedTokenizerFast
) -> None:
    module().check(read_by(wordpiece, 2))
    bad = Dataset.from_dict({"text": ["a", "b"], "label": [0, 7]})
    for where in ("validation", "public"):
        with pytest.raises(
            ValueError, match=rf"data.{where}: `data.encoding.label` .* has 7 in row 1"
        ):
            module(**{where: bad}).check(read_by(wordpiece, 2))
    with pytest.raises(ValueError, match=r"data.test \(new\): .* num_labels, 2, but 'label' has 7"):
        module(test={"new": bad}).check(read_by(wordpiece, 2))
    with pytest.raises(
        ValueError, match=r"data.train \(client-\d\): .* num_labels, 1, but 'label' has 1"
    ):
        module().check(read_by(wordpiece, 1))
    module().check(read_by(wordpiece, 2, 9))
    with pytest.raises(
        ValueError,
        match=r"data.train \(client-\d\): `data.max_length` is expected to be at most 8, .* but is "
        r"128, and a row has 9 tokens",
    ):
        module(max_length=128).check(read_by(wordpiece, 2, 8))
    encoding = CausalLMEncoding("{text} {author}", response="author", truncation="end")
    with pytest.raises(
        ValueError, match=r"data.train \(client-0\): .* rows have nothing to learn from"
    ):
        module(encoding=encoding, max_length=3).check(read_by(bpe))


def test_every_tokenizer_reads_all_rows(
    wordpiece: PreTrainedTokenizerFast, bpe: PreTrainedTokenizerFast
) -> None:
    """An error names the model whose tokens or labels do not fit, where there are several."""
    data = module(max_length=128)
    both = read_by(wordpiece, 2) | {"teacher.backbone": PlainReader(bpe)}
    data.check(both)
    tables = 2 * len(list(data._parts()))
    assert len(data._encoded) == tables
    data.check(both)  # all is kept
    assert len(data._encoded) == tables
    with pytest.raises(
        ValueError,
        match=r"^data.train \(client-\d\), read by model.teacher.backbone: `data.max_length` is expected "
        r"to be at most 3, the tokens that `model.teacher.backbone` has positions for",
    ):
        data.check(read_by(wordpiece, 2) | {"teacher.backbone": PlainReader(bpe, None, 3)})
    with pytest.raises(ValueError, match=r"read by model.small: .* num_labels, 1, but 'label' has"):
        data.check(read_by(wordpiece, 2) | {"small": PlainReader(bpe, 1)})


def test_rows_that_are_cut_are_told_once_a_set(
    wordpiece: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    long = sum(len(text.split()) + 2 > 6 for text in ROWS["text"])
    data = module(
        test={"new": ROWS, "short": ROWS.select([0])}, max_length=6, validation_fraction=0
    )
    for number in range(2):
        with caplog.at_level("INFO"):
            data.check(read_by(wordpiece, 2))
        told = [r.getMessage() for r in caplog.records if "data.max_length" in r.getMessage()]
        rest = f": {long} of 100 rows have more than 6 tokens and are cut (`data.max_length`)"
        assert told == [f"data.train{rest}", f"data.test (new){rest}"], number
    # by default a row is as long as the model allows
    data = module()
    data.check(read_by(wordpiece, 2, 8))
    assert max(data.features(c.rows, wordpiece).lengths.max() for c in data.clients) == 8
    data.check(read_by(wordpiece, 2))
    assert max(data.features(c.rows, wordpiece).lengths.max() for c in data.clients) == 9


def test_partition_table_counts_labels_or_the_partitioned_column() -> None:
    def text(data: FederatedDataModule) -> str:
        console = Console(width=150)
        with console.capture() as capture:
            console.print(data.partition_table())
        return capture.get()

    assert "label 1" in text(module(partitioner=DirichletPartitioner()))
    lm = CausalLMEncoding("{text} {author}", response="author")
    assert "author e" in text(module(encoding=lm, partitioner=NaturalPartitioner()))
    assert "author" not in text(module(encoding=lm))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_clients": 0}, "`data.num_clients` is expected to be at least 1, but got 0"),
        ({"batch_size": 0}, "`data.batch_size` is expected to be at least 1"),
        (
            {"validation_fraction": 1.0},
            "`data.validation_fraction` is expected to be at least 0 and below 1, but got 1.0",
        ),
        ({"client_validation_fraction": -0.1}, "`data.client_validation_fraction` is expected"),
        ({"public_size": -1}, "`data.public_size` is expected to be at least 0"),
        (
            {"public_size": 5, "public": ROWS},
            "`data.public_size` is expected to be 0 where `data.public` is given",
        ),
        ({"num_clients": 95}, "`data.num_clients` is 95, but only 90 of the 100 rows"),
        (
            {"encoding": ClassificationEncoding()},
            "`data.encoding.text` .* data.train, but got 'english'",
        ),
    ],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        module(**settings)


def test_errors_of_sources_name_the_setting(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"data.train: `path` is expected to be a file, but .* does not exist",
    ):
        module(CSVSource(tmp_path / "nope"))  # type: ignore[arg-type]


def test_before_setup() -> None:
    with pytest.raises(RuntimeError, match=r"call setup\(\) first"):
        _ = FederatedDataModule(ROWS, encoding=TEXT).clients


class Bag(LightningModule):
    """A bag of words, which sees rows come."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast | None) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.words = torch.nn.EmbeddingBag(64, 2)
        self.epochs: list[list[int]] = []

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return cross_entropy(self.words(batch["input_ids"]), batch["labels"])

    def on_train_epoch_start(self) -> None:
        self.epochs.append([])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.epochs[-1] += batch["index"].tolist()
        return self(batch)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("val/loss", self(batch))

    def test_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("test/loss", self(batch))

    def predict_step(
        self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor:
        return batch["index"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def stock_trainer() -> Trainer:
    return Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@pytest.mark.filterwarnings("ignore")
def test_a_stock_trainer(wordpiece: PreTrainedTokenizerFast) -> None:
    data = FederatedDataModule(
        ROWS,
        encoding=TEXT,
        num_clients=4,
        batch_size=8,
        seed=0,
        test={"a": ROWS, "b": ROWS.select([1])},
    )
    bag, trainer = Bag(wordpiece), stock_trainer()
    trainer.fit(bag, datamodule=data)
    trained = sorted(row for client in data.clients for row in client.rows[ROW_ID])
    assert [sorted(epoch) for epoch in bag.epochs] == [trained, trained]
    assert bag.epochs[0] != bag.epochs[1]
    assert "val/loss" in trainer.callback_metrics
    results = trainer.test(bag, datamodule=data, verbose=False)
    assert [list(result) for result in results] == [
        ["test/loss/dataloader_idx_0"],
        ["test/loss/dataloader_idx_1"],
    ]
    predictions = trainer.predict(bag, datamodule=data)
    assert predictions is not None
    assert torch.cat(predictions[0]).tolist() == list(range(100))  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")
def test_a_stock_trainer_without_tokenizer_or_validation(
    wordpiece: PreTrainedTokenizerFast,
) -> None:
    data = FederatedDataModule(ROWS, encoding=TEXT, num_clients=4, validation_fraction=0.0)
    with pytest.raises(TypeError, match=r"module's attribute `tokenizer`, but Bag has none"):
        stock_trainer().fit(Bag(None), datamodule=data)
    stock_trainer().fit(Bag(wordpiece), datamodule=data)


def test_the_embedded_default() -> None:
    data = FederatedDataModule(seed=0)
    data.setup()
    assert [len(client.rows) for client in data.clients] == [120] * 10
    assert data.validation is not None
    assert data.public is not None
    assert list(data.tests) == ["test", "unseen_names"]
    other = FederatedDataModule(seed=1)
    other.setup()
    # the seed draws the training rows, not their order alone, and the tests stay
    drawn, redrawn = (
        {text for client in one.clients for text in client.rows["english"]} for one in (data, other)
    )
    assert len(drawn & redrawn) < len(drawn) / 4
    assert other.tests["test"].to_list() == data.tests["test"].to_list()
    sized = FederatedDataModule(seed=0, public_size=60)
    sized.setup()
    assert sized.public is not None
    assert len(sized.public) == 60


def test_from_datasets_takes_the_tables() -> None:
    data = FederatedDataModule.from_datasets(
        ROWS,
        ROWS.select(range(7)),
        {"new": ROWS.select([1])},
        batch_size=5,
        encoding=TEXT,
        num_clients=2,
    )
    data.setup()
    assert [len(client.rows) for client in data.clients] == [50, 50]
    assert data.validation is not None
    assert len(data.validation) == 7
    assert {name: len(rows) for name, rows in data.tests.items()} == {"new": 1}
    assert data.batch_size == 5


@pytest.mark.parametrize(
    "given", [{}, {"val_dataset": ROWS}, {"train_dataset": ROWS, "predict_dataset": ROWS}]
)
def test_from_datasets_says_what_it_does_not_take(given: dict[str, Any]) -> None:
    with pytest.raises(
        TypeError, match="from_datasets of FederatedDataModule expects `train_dataset`"
    ):
        FederatedDataModule.from_datasets(**given)
    with pytest.raises(
        TypeError, match=r"`data.train` is expected to be a Source or a datasets.Dataset"
    ):
        FederatedDataModule.from_datasets([1, 2, 3]).setup()


WARDS = {
    "ward b": ROWS.select(range(60)),
    "ward/a": ROWS.select(range(60, 99)),
    "one": ROWS.select([99]),
}


def separate(**settings: Any) -> FederatedDataModule:
    data = FederatedDataModule(WARDS, encoding=TEXT, seed=0, **settings)  # type: ignore[arg-type]
    data.setup()
    return data


def test_clients_that_are_separate_keep_names_and_rows() -> None:
    data = separate(validation_fraction=0)
    assert [client.id for client in data.clients] == list(WARDS)
    assert data.num_clients == 3
    for client in data.clients:
        assert client.rows["text"][:] == WARDS[client.id]["text"][:]
    ids = [row for client in data.clients for row in client.rows[ROW_ID]]
    assert ids == list(range(100))


def test_what_is_carved_off_leaves_each_client_a_row() -> None:
    data = separate(validation_fraction=0.5, public_size=47)
    assert data.validation is not None
    assert data.public is not None
    assert (len(data.validation), len(data.public)) == (50, 47)
    assert [len(client.rows) for client in data.clients] == [1, 1, 1]
    with pytest.raises(ValueError, match=r"`data.public_size` is 48, but only 47"):
        separate(validation_fraction=0.5, public_size=48)


def test_separate_clients_hold_rows_out_and_have_tasks() -> None:
    data = separate(client_validation_fraction=0.5, validation_fraction=0)
    assert [len(client.validation or ()) for client in data.clients] == [30, 20, 0]
    tasks = {
        name: rows.add_column("task", ["odd" if label else "even" for label in rows["label"]])
        for name, rows in WARDS.items()
    }
    data = FederatedDataModule(tasks, encoding=TEXT, tasks=["odd"], validation_fraction=0)  # type: ignore[arg-type]
    data.setup()
    assert [client.rows["text"][:] for client in data.clients] == [
        [t for t, label in zip(rows["text"], rows["label"], strict=True) if label]
        for rows in WARDS.values()
    ]
    data = FederatedDataModule(tasks, encoding=TEXT, tasks=["even"])  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"`data.train.one` is expected to have rows of `data.tasks`"
    ):
        data.setup()


def test_separate_clients_have_no_partition_and_no_other_number() -> None:
    with pytest.raises(
        ValueError, match=r"`data.partitioner` is expected to be null .* got NaturalPartitioner"
    ):
        separate(partitioner=NaturalPartitioner())
    with pytest.raises(
        ValueError, match=r"`data.num_clients` is expected to be null .* are 3, but got 4"
    ):
        separate(num_clients=4)
    assert separate(num_clients=3).num_clients == 3


def test_splits_are_no_clients() -> None:
    splits = DatasetDict({"train": ROWS, "test": ROWS})
    with pytest.raises(
        TypeError, match=r"such as splits\['train'\], but got a DatasetDict of train, test"
    ):
        FederatedDataModule(splits)
    with pytest.raises(TypeError, match=r"`data.test` .* such as splits\['test'\], but"):
        module(test=splits)
    data = module(test=dict(splits))
    assert list(data.tests) == ["train", "test"]


@pytest.mark.parametrize(
    ("train", "said"),
    [
        (
            {"a": ROWS, "b": ROWS.select([])},
            "`data.train.b` is expected to have rows, but has none",
        ),
        ({"a": ROWS, "b": ROWS.remove_columns("text")}, "column of data.train.b, but got 'text'"),
        (
            {"a": ROWS, "b": [1]},
            "`data.train.b` is expected to be a Source or a datasets.Dataset, but got list",
        ),
        (CSVSource, "but got the class CSVSource"),
    ],
)
def test_what_is_wrong_with_a_client_names_it(train: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        FederatedDataModule(train, encoding=TEXT).setup()


def test_a_natural_partition_makes_as_many_clients_as_there_are_values() -> None:
    data = module(num_clients=None, partitioner=NaturalPartitioner("author"))
    assert sorted(client.id for client in data.clients) == list("abcde")
    for client in data.clients:
        assert set(client.rows["author"]) == {client.id}
    assert [client.id for client in module(num_clients=None).clients][:2] == [
        "client-0",
        "client-1",
    ]
    assert module(num_clients=None).num_clients == 10


def test_labels_of_another_kind_in_the_test_are_named(wordpiece: PreTrainedTokenizerFast) -> None:
    def check(
        train: list[Any], test: list[Any], names: tuple[list[str], list[str]] | None = None
    ) -> None:
        tables = [Dataset.from_dict({"text": ["a"] * len(ls), "label": ls}) for ls in (train, test)]
        if names is not None:
            tables = [
                table.cast_column("label", ClassLabel(names=own))
                for table, own in zip(tables, names, strict=True)
            ]
        data = FederatedDataModule(
            tables[0],
            test=tables[1],
            encoding=ClassificationEncoding("text", None),
            num_clients=1,
            validation_fraction=0,
        )
        data.check(read_by(wordpiece, 2))

    check([0, 1], [1])
    check([0, 1], [1], (["no", "yes"], ["no", "yes"]))
    for train, test, names, said in (
        (
            [0, 1],
            ["yes"],
            None,
            r"data.test \(test\): .* which has labels \['yes'\], .* known ones are whole numbers, as in the train",
        ),
        (
            ["no", "yes"],
            [0],
            None,
            r"data.test \(test\): .* which has labels \['0'\], .* but the known ones are",
        ),
        (
            [0, 1],
            [1],
            (["no", "yes"], ["nein", "ja"]),
            r"which has labels \['ja'\], .* known ones are \['no', 'yes'\]",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            check(train, test, names)


def test_names_of_a_class_label_are_the_labels_names() -> None:
    # the numbers count, also where names are numbers of another order
    rows = ROWS.cast_column("label", ClassLabel(names=["1", "0"]))
    encoding = ClassificationEncoding("text", None)
    encoding.prepare(rows)
    assert encoding.names == ["1", "0"]
    assert encoding.label_ids(rows).tolist() == ROWS["label"][:]


def test_an_encoding_for_models_of_another_kind_is_named(
    wordpiece: PreTrainedTokenizerFast,
) -> None:
    data = module()
    data.check({"backbone": PlainReader(wordpiece, 2, None, True)})
    with pytest.raises(
        ValueError, match=r"`data.encoding` .* CausalLMEncoding, since `model.teacher.model`"
    ):
        data.check({"teacher.model": PlainReader(wordpiece, None, None, False)})


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("content", ["", "text\tlabel\n"])
def test_an_empty_file_is_named(tmp_path: Path, ending: str, content: str) -> None:
    (tmp_path / f"a.{ending}").write_text(content.replace("\t", "," if ending == "csv" else "\t"))
    with pytest.raises((ValueError, OSError), match=r"data\.train\.a") as error:
        FederatedDataModule(ClientFiles(f"{tmp_path}/*"), encoding=TEXT).setup()
    assert "\n" not in str(error.value)


def test_settings_count_as_they_are_when_the_tables_are_read(
    wordpiece: PreTrainedTokenizerFast,
) -> None:
    data = FederatedDataModule(ROWS, encoding=TEXT, num_clients=4, seed=0, max_length=128)
    data.max_length, data.pad_to_multiple_of = 6, 4
    data.check(read_by(wordpiece, 2))
    assert data.longest_row == 6
    assert data.features(data.clients[0].rows, wordpiece).pad_to_multiple_of == 4


def test_of_the_first_rows_the_longest_come_first(wordpiece: PreTrainedTokenizerFast) -> None:
    for bucketing in (True, False):
        data = module(bucketing=bucketing)
        rows = data.clients[0].rows
        lengths = data.features(rows, wordpiece).lengths
        count = 7
        # there are longer rows behind them
        assert lengths[count:].max() > lengths[:count].min()
        loader = data.dataloader(rows, wordpiece, batch_size=3, longest_of=count)
        seen = torch.cat([batch["index"] for batch in loader]).tolist()
        first = rows.select(range(count))[ROW_ID][:]
        assert len(loader) == 3
        assert sorted(seen) == sorted(first)
        by_length = sorted(range(count), key=lambda i: (-lengths[i], i))
        assert seen == [first[i] for i in (by_length if bucketing else range(count))]
