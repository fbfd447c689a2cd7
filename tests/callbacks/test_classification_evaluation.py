"""Metrics of classification, beside those of scikit-learn on what `predictions` says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import ClassLabel
from sklearn.metrics import f1_score, recall_score, roc_auc_score
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryF1Score,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassRecall,
)

from lit_fed import FedAvg, SemanticConsensus
from lit_fed.aggregation import LocalOnly
from lit_fed.attacks.triggers import WordTrigger
from lit_fed.backbones import CallableGenerator
from lit_fed.callbacks import BackdoorEvaluation, ClassificationEvaluation
from lit_fed.data import ClassificationEncoding
from lit_fed.methods.semantic_consensus import ClientGroup
from tests.federation.toy import (
    fast_adamw,
    toy_backbone,
    toy_data,
    toy_module,
    toy_rows,
    toy_trainer,
)
from tests.methods.toy_methods import continue_text, lm_data, save_toy_lm


def named(count: int, seed: int) -> Any:
    return toy_rows(count, seed).cast_column("label", ClassLabel(names=["bad", "good"]))


def metrics() -> dict[str, Metric]:
    return {
        "f1": MulticlassF1Score(num_classes=2, average="macro"),
        "recall": MulticlassRecall(num_classes=2, average=None),
        "auroc": BinaryAUROC(),
        "positive_f1": BinaryF1Score(),
    }


def by_scikit_learn(said: list[dict[str, Any]]) -> dict[str, float]:
    expected, label = ([row[key] for row in said] for key in ("expected", "label"))
    bad, good = recall_score(expected, label, labels=["bad", "good"], average=None)
    likely = [row["probabilities"]["good"] for row in said]
    return {
        "f1": f1_score(expected, label, average="macro"),
        "recall/bad": bad,
        "recall/good": good,
        "auroc": roc_auc_score([one == "good" for one in expected], likely),
        "positive_f1": f1_score(expected, label, pos_label="good"),
    }


def test_they_are_those_of_scikit_learn(toy_model: Path, tmp_path: Path) -> None:
    """After each round, of every test set; nothing of an earlier round counts."""
    data = toy_data(
        train=named(96, 0),
        validation=named(40, 1),
        test={"test": named(60, 2), "other": named(50, 5)},
        public=None,
    )
    callback = ClassificationEvaluation(metrics(), every_n_rounds=1)
    trainer = toy_trainer(tmp_path, max_rounds=3, callbacks=[callback], clients_per_round=1.0)
    module = toy_module(toy_model)
    trainer.fit(module, data)
    said = list(trainer.predictions(module))
    last = trainer.federation.history[-1]
    for name, suffix in (("test", ""), ("other", "/other")):
        expected = by_scikit_learn([row for row in said if row["set"] == name])
        found = {key: last[f"classification/{key}{suffix}"] for key in expected}
        assert found == pytest.approx(expected, abs=1e-5)
        assert found["auroc"] > 0.6
    assert "classification/f1" in trainer.federation.history[0]


def test_of_clients_models_there_is_the_spread(toy_model: Path, tmp_path: Path) -> None:
    module = FedAvg(toy_backbone(toy_model), aggregation=LocalOnly(), optimizer=fast_adamw)
    given = {"recall": MulticlassRecall(num_classes=2, average=None)}
    trainer = toy_trainer(
        tmp_path, max_rounds=1, clients_per_round=1.0, callbacks=[ClassificationEvaluation(given)]
    )
    data = toy_data()
    trainer.fit(module, data)
    own = []
    for client in trainer.datamodule.clients:
        said = list(trainer.predictions(module, client=client.id))
        pairs = [([row[key] for row in said]) for key in ("expected", "label")]
        own.append(recall_score(*pairs, pos_label="1"))
    last = trainer.federation.history[-1]
    assert "classification/recall/1" not in last
    assert last["clients/classification/recall/1/mean"] == pytest.approx(sum(own) / 4, abs=1e-5)
    assert last["clients/classification/recall/1/min"] == pytest.approx(min(own), abs=1e-5)


def test_a_black_box_is_left_out(toy_model: Path, tmp_path: Path) -> None:
    """It gives no probabilities; so it is of backdoors."""
    module = SemanticConsensus(
        toy_backbone(toy_model),
        [ClientGroup(CallableGenerator(lambda text: "good"), ["client-1"])],
        warmup_rounds=1,
        optimizer=fast_adamw,
    )
    given = {"recall": MulticlassRecall(num_classes=2, average=None)}
    backdoor = BackdoorEvaluation(WordTrigger(), target="good", every_n_rounds=1)
    trainer = toy_trainer(
        tmp_path,
        max_rounds=1,
        clients_per_round=1.0,
        callbacks=[ClassificationEvaluation(given), backdoor],
    )
    encoding = ClassificationEncoding("text", None, label_names=["bad", "good"])
    trainer.fit(module, toy_data(encoding=encoding))
    own = [client.id for client in trainer.datamodule.clients if client.id != "client-1"]
    found = []
    for id in own:
        said = list(trainer.predictions(module, client=id))
        pairs = [[row[key] for row in said] for key in ("expected", "label")]
        found.append(recall_score(*pairs, pos_label="good"))
    last = trainer.federation.history[-1]
    assert last["clients/classification/recall/good/mean"] == pytest.approx(
        sum(found) / 3, abs=1e-5
    )
    assert 0 <= last["clients/backdoor/asr/mean"] <= 100


def test_what_cannot_be_told_is_refused_by_name(toy_model: Path, tmp_path: Path) -> None:
    for wrong, kind, said in (
        ({}, ValueError, "expected to be one at least"),
        ({"a/b": BinaryAUROC()}, ValueError, "names without a slash, but got 'a/b'"),
        ({"a": torch.nn.Linear(1, 1)}, TypeError, "metrics.a` is expected to be"),
    ):
        with pytest.raises(kind, match=said):
            ClassificationEvaluation(wrong)  # type: ignore[arg-type]  # what Python may be given
    matrix = ClassificationEvaluation({"matrix": MulticlassConfusionMatrix(num_classes=2)})
    trainer = toy_trainer(tmp_path / "matrix", max_rounds=1, callbacks=[matrix])
    with pytest.raises(
        ValueError, match=r"metrics\.matrix` .* each of the 2 classes, but gave \[2, 2\]"
    ):
        trainer.fit(toy_module(toy_model), toy_data())


def test_models_that_write_have_no_labels(tmp_path: Path) -> None:
    language_model = save_toy_lm(tmp_path / "model")
    trainer = toy_trainer(
        tmp_path / "run",
        max_rounds=1,
        clients_per_round=1.0,
        callbacks=[ClassificationEvaluation({"a": MeanMetric()})],
    )
    with pytest.raises(TypeError, match=r"`data\.encoding` to have labels"):
        trainer.fit(continue_text(FedAvg, language_model), lm_data())
