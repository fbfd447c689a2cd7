"""The rate of entailment by a random model that is built here."""

import pickle  # only ever of what the test made itself
import re
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torchmetrics import MetricCollection
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from lit_fed.metrics import EntailmentRate

PREDS = ["a b", "", "c d e f g h c d e f", "e", "g h", "b a c", "d d", "f"]
TARGET = ["a", "b c", "c d", "", "h g a", "e f", "a b c", "g"]


def save_model(folder: Path, names: list[str]) -> str:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(6)
        config = BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=12,
            initializer_range=1.0,
            id2label=dict(enumerate(names)),
            label2id={name: i for i, name in enumerate(names)},
        )
        BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    names = ["contradiction", "ENTAILMENT", "neutral"]
    return save_model(tmp_path_factory.mktemp("nli"), names)


def entailed(folder: str, premises: list[str], hypotheses: list[str]) -> float:
    """Pair by pair, without padding, by hand."""
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    count = 0
    for premise, hypothesis in zip(premises, hypotheses, strict=True):
        a, b = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (premise, hypothesis))
        while len(a) + len(b) > 12 - 3:
            (a if len(a) > len(b) else b).pop()
        ids = torch.tensor([[2, *a, 3, *b, 3]])
        types = torch.tensor([[0] * (len(a) + 2) + [1] * (len(b) + 1)])
        count += int(model(input_ids=ids, token_type_ids=types).logits.argmax()) == 1
    return 100 * count / len(premises)


def test_equals_one_pair_after_the_other(folder: str) -> None:
    metric = EntailmentRate(folder, max_length=12, batch_size=3)
    metric.update(PREDS, target=TARGET)
    expected = entailed(folder, PREDS, TARGET)
    assert 0 < expected < 100
    assert metric.compute().item() == pytest.approx(expected)
    turned = EntailmentRate(folder, premise="source", hypothesis="preds", max_length=12)
    turned.update(PREDS[:5], source=TARGET[:5])
    turned.update(PREDS[5:], source=TARGET[5:])
    assert turned.compute().item() == pytest.approx(entailed(folder, TARGET, PREDS))


def test_the_model_is_no_part_of_the_metric(folder: str) -> None:
    metric = EntailmentRate(folder, max_length=12)
    metric.update(PREDS, target=TARGET)
    pickled = pickle.dumps(metric)
    assert len(pickled) < 10_000
    assert pickle.loads(pickled).compute() == metric.compute()  # noqa: S301
    assert not list(metric.parameters())


def test_in_a_collection(folder: str) -> None:
    metrics = {
        "kept": EntailmentRate(folder, max_length=12),
        "backed": EntailmentRate(folder, "target", "preds", max_length=12),
    }
    collection = MetricCollection(metrics)
    collection.update(preds=PREDS[:1], target=PREDS[:1], source=PREDS[:1])
    collection.update(preds=PREDS, target=TARGET, source=TARGET)
    assert len(collection.compute_groups) == 2


def test_metrics_of_two_models_load_each_once(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    monkeypatch.setattr(
        transformers.AutoModelForSequenceClassification,
        "from_pretrained",
        lambda name: loads.append(name) or load(name),
    )
    names = [save_model(tmp_path / name, ["entailment", "neutral"]) for name in ("first", "second")]
    metrics = [EntailmentRate(name, max_length=12) for name in names]
    for _ in range(3):
        for metric in metrics:
            metric.update(PREDS[:2], target=TARGET[:2])
    assert loads == names


def test_logits_that_are_no_numbers_are_no_entailment(tmp_path: Path) -> None:
    folder = save_model(tmp_path, ["entailment", "neutral"])
    model = BertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.bias.fill_(torch.nan)
    model.save_pretrained(folder)
    metric = EntailmentRate(folder, max_length=12)
    metric.update(PREDS, target=TARGET)
    assert metric.compute() == 0


def test_no_pair(folder: str) -> None:
    metric = EntailmentRate(folder)
    metric.update([], target=[])
    assert metric.compute().isnan()


def test_refusals(folder: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"to have the label 'yes', but .* has \['contradiction'"):
        EntailmentRate(folder, label="yes")
    unnamed = save_model(tmp_path, ["LABEL_0", "LABEL_1"])
    message = "one label whose name begins with entail, but"
    with pytest.raises(ValueError, match=message):
        EntailmentRate(unnamed)
    assert EntailmentRate(unnamed, label="label_1").label == 1
    with pytest.raises(FileNotFoundError, match="`model` is expected to be a folder in Hugging"):
        EntailmentRate(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="to be two texts, but both are 'preds'"):
        EntailmentRate(folder, "preds", "preds")
    message = '`target` is expected with hypothesis="target", but was not given'
    with pytest.raises(ValueError, match=re.escape(message)):
        EntailmentRate(folder).update(["a"], source=["b"])
