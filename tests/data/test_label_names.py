"""Names of labels: the data's go into the model and its export, a model's own order the data's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel, Dataset
from peft import PeftModel
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForSequenceClassification,
)

from lit_fed import FedAvg, FederatedTrainer
from lit_fed.backbones import SequenceClassifier
from lit_fed.data import ClassificationEncoding, FederatedDataModule
from tests.federation.toy import fast_adamw, save_toy_model, toy_rows

NAMES = {0: "spam", 1: "ham"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("model"))


def renamed(model: Path, folder: Path, names: dict[int, str]) -> str:
    """The model, trained on nothing, with names of labels in its configuration."""
    loaded = BertForSequenceClassification.from_pretrained(
        model, num_labels=len(names), ignore_mismatched_sizes=True
    )
    loaded.config.id2label = names
    loaded.config.label2id = {name: label for label, name in names.items()}
    loaded.save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return str(folder)


def rows(words: dict[int, Any], count: int = 24) -> Dataset:
    table = toy_rows(count, 0)
    return Dataset.from_dict(
        {"text": table["text"][:], "label": [words[label] for label in table["label"]]}
    )


def checked(backbone: SequenceClassifier, table: Dataset, **settings: Any) -> FederatedDataModule:
    data = FederatedDataModule(
        table,
        test=table,
        encoding=ClassificationEncoding("text", None, **settings),
        num_clients=2,
        seed=0,
    )
    data.check({"backbone": backbone})
    return data


WORDS = {0: "spam", 1: "ham"}


@pytest.mark.parametrize("kind", ["text", "class label"])
def test_a_models_own_names_order_the_labels(model: Path, tmp_path: Path, kind: str) -> None:
    backbone = SequenceClassifier(renamed(model, tmp_path, NAMES), peft=None)
    table = rows(WORDS)
    if kind == "class label":
        table = table.cast_column("label", ClassLabel(names=["ham", "spam"]))
    data = checked(backbone, table)
    assert data.encoding.names == ["spam", "ham"]
    numbers = toy_rows(24, 0)["label"][:]
    (batch,) = data.dataloader(data.tests["test"], backbone.tokenizer)
    assert batch["labels"].tolist() == numbers
    # numbers are the model's already
    assert checked(backbone, toy_rows(24, 0)).encoding.names == ["spam", "ham"]


def test_labels_that_the_model_does_not_know_are_an_error(model: Path, tmp_path: Path) -> None:
    folder = renamed(model, tmp_path, NAMES)
    message = (
        r"expected to be those of `model.backbone`, \['spam', 'ham'\], but column 'label' has "
        r"\['bad', 'good'\]: .* by `model.backbone.label_names`"
    )
    with pytest.raises(ValueError, match=message):
        checked(SequenceClassifier(folder), rows({0: "bad", 1: "good"}))
    with pytest.raises(ValueError, match=r"`data.encoding.label_names` is \['ham', 'spam'\]"):
        checked(SequenceClassifier(folder), rows(WORDS), label_names=["ham", "spam"])
    other = SequenceClassifier(folder, label_names=["bad", "good"])
    assert checked(other, rows({0: "bad", 1: "good"})).encoding.names == ["bad", "good"]
    for bad in (["a", "a"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match=r"`model.backbone.label_names` are expected to"):
            SequenceClassifier(folder, num_labels=2, label_names=bad)


def test_more_labels_in_the_model_than_in_the_data_are_told(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    three = renamed(model, tmp_path, {0: "eggs", 1: "spam", 2: "ham"})
    data = checked(SequenceClassifier(three), rows(WORDS))
    assert data.encoding.names == ["eggs", "spam", "ham"]
    with caplog.at_level("INFO"):
        numbered = renamed(model, tmp_path / "other", {i: f"LABEL_{i}" for i in range(3)})
        backbone = SequenceClassifier(numbered)
        checked(backbone, rows(WORDS))
    assert (
        "has 3 labels, but the data only 2, ['ham', 'spam']: the others are never right"
        in caplog.text
    )
    assert backbone.model.config.id2label == {0: "ham", 1: "spam", 2: "LABEL_2"}
    table = Dataset.from_dict({"text": ["a", "b", "c"] * 4, "label": ["x", "y", "z"] * 4})
    with pytest.raises(ValueError, match=r"num_labels` is expected to be at least 3, .* but is 2"):
        checked(SequenceClassifier(str(model), num_labels=2), table)


@pytest.mark.parametrize("peft", [None, "lora"])
def test_a_trained_model_and_its_export_name_what_they_say(
    model: Path, tmp_path: Path, peft: Any
) -> None:
    table = rows(WORDS, 64)
    data = FederatedDataModule(
        table, test=table, encoding=ClassificationEncoding("text", None), num_clients=2, seed=0
    )
    module = FedAvg(SequenceClassifier(str(model), 2, peft), optimizer=fast_adamw, warmup_steps=0)
    trainer = FederatedTrainer(
        max_rounds=1,
        default_root_dir=tmp_path / "run",
        accelerator="cpu",
        enable_progress_bar=False,
    )
    trainer.fit(module, data)
    said = [row["label"] for row in trainer.predictions(module)]
    again = FedAvg(SequenceClassifier(str(model), 2, peft), optimizer=fast_adamw, warmup_steps=0)
    assert FedAvg.from_run(tmp_path / "run", again).backbone.label_names == ["ham", "spam"]
    folder = tmp_path / "run" / "adapter"
    if peft is None:
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(folder)
    else:
        config = AutoConfig.from_pretrained(folder / "model_config.json")
        base = AutoModelForSequenceClassification.from_pretrained(model, config=config)
        loaded = PeftModel.from_pretrained(base, folder)
    tokens = AutoTokenizer.from_pretrained(folder)(
        table["text"][:], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        best = loaded.eval()(**tokens).logits.argmax(-1).tolist()
    assert [loaded.config.id2label[label] for label in best] == said
    assert loaded.config.label2id == {"ham": 0, "spam": 1}
