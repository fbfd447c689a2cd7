"""Three tasks with labels of their own and two shifted sets: what is evaluated, beside plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, concatenate_datasets
from lightning.pytorch import Callback
from peft import LoraConfig
from transformers import BertModel

from lit_fed import FedAvg
from lit_fed.backbones import SequenceClassifier
from lit_fed.callbacks import (
    ParameterChange,
    RepresentationStability,
    ShiftEvaluation,
    TaskEvaluation,
)
from lit_fed.data import ClassificationEncoding, FederatedDataModule, IIDPartitioner
from tests.federation.toy import fast_adamw, save_toy_model, toy_rows, toy_trainer

TASKS = ["first", "second", "third"]
CLASSES = 2 * len(TASKS)


def rows(count: int, seed: int, marks: tuple[str, ...] = ("", "", "")) -> Dataset:
    """Rows of three tasks, each with two labels that are its own, and a word at the end of each text."""
    parts = []
    for number, task in enumerate(TASKS):
        one = toy_rows(count, seed + 10 * number)
        texts = [f"{text} {marks[number]}".strip() for text in one["text"]]
        labels = [2 * number + label for label in one["label"]]
        given = {"text": texts, "label": labels, "task": [task] * count}
        parts.append(Dataset.from_dict(given))
    return concatenate_datasets(parts)


def unbiased_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA of the unbiased estimate of HSIC (Song et al., 2012), within [0, 1]."""

    def gram(a: np.ndarray) -> np.ndarray:
        k = a @ a.T
        np.fill_diagonal(k, 0.0)
        return k

    def hsic(k: np.ndarray, m: np.ndarray) -> float:
        n = len(k)
        first = np.trace(k @ m) + k.sum() * m.sum() / ((n - 1) * (n - 2))
        return float(first - 2 / (n - 2) * (k @ m).sum()) / (n * (n - 3))

    k, m = gram(x), gram(y)
    return float(np.clip(hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m)), 0, 1))


class Witness(Callback):
    """The logits and states of the global model before the first round and after each."""

    def __init__(self) -> None:
        self.logits: list[dict[str, np.ndarray]] = []
        self.states: list[list[np.ndarray]] = []
        self.updates: list[float] = []

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.look(trainer)

    def on_aggregate_end(self, trainer: Any, module: Any, updates: Any) -> None:
        before = trainer.federation.broadcast.tensors
        total = sum(p.numel() for p in module.backbone.model.parameters())
        shares = []
        for update in updates:
            moved = 0
            for name, old in before.items():
                change = (update.payload.tensors[name] - old).abs().numpy()
                moved += int((change > 1e-3 * np.sqrt(np.mean(old.numpy() ** 2))).sum())
            shares.append(100 * moved / total)
        self.updates.append(float(np.mean(shares)))

    def on_round_end(self, trainer: Any, module: Any, metrics: Any) -> None:
        self.look(trainer)

    @torch.no_grad()
    def look(self, trainer: Any) -> None:
        module = trainer.act_as_server().eval()
        data = trainer.datamodule
        self.logits.append(
            {
                name: torch.cat([module(batch).logits for batch in module.batches(table)]).numpy()
                for name, table in data.tests.items()
            }
        )
        probes = data.validation.select(range(0, len(data.validation), 2))
        (batch,) = module.batches(probes)
        inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
        hidden = module.backbone.model.base_model.model.bert(
            **inputs, output_hidden_states=True
        ).hidden_states[1:]
        mask = batch["attention_mask"].unsqueeze(-1)
        self.states.append([((h * mask).sum(1) / mask.sum(1)).double().numpy() for h in hidden])


@pytest.fixture(scope="module", params=[True, False], ids=["known task", "unknown task"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("three")
    model = save_toy_model(root / "model")
    BertModel.from_pretrained(model).save_pretrained(model)  # without its head of two labels
    data = FederatedDataModule(
        train=rows(40, 0),
        validation=rows(8, 1),
        test={
            "test": rows(24, 2),
            "old": rows(16, 3, ("old dull", "grey", "old")),
            "new": rows(10, 4, ("bright", "good fine", "kind")),
        },
        encoding=ClassificationEncoding(text="text", text_pair=None),
        partitioner=IIDPartitioner(),
        num_clients=2,
        batch_size=8,
        max_length=16,
        seed=0,
        tasks=TASKS,
    )
    torch.manual_seed(0)
    backbone = SequenceClassifier(
        str(model), num_labels=CLASSES, peft=LoraConfig(r=4, lora_alpha=8)
    )
    witness = Witness()
    callbacks = [
        TaskEvaluation(known_task=request.param),
        ShiftEvaluation(),
        RepresentationStability(num_probes=12, drop_rate=0.0),
        ParameterChange(),
        witness,
    ]
    trainer = toy_trainer(
        root,
        rounds_per_task=1,
        clients_per_round=2,
        local_epochs=3,
        callbacks=callbacks,
        test_at_end=False,
    )
    trainer.fit(FedAvg(backbone, optimizer=fast_adamw), data)
    trainer.witness, trainer.known_task = witness, request.param
    return trainer


def accuracies(run: Any, known: bool) -> np.ndarray:
    """R[t, j] from the model's logits, before the first task, t = 0, and after each."""
    table = run.datamodule.tests["test"]
    labels, tasks = np.array(table["label"]), np.array(table["task"])
    matrix = np.zeros((len(TASKS) + 1, len(TASKS)))
    for after, every in enumerate(run.witness.logits):
        for number, task in enumerate(TASKS):
            logits = every["test"][tasks == task]
            own = logits[:, 2 * number : 2 * number + 2]
            guessed = 2 * number + own.argmax(-1) if known else logits.argmax(-1)
            matrix[after, number] = (guessed == labels[tasks == task]).mean()
    return matrix


def test_only_the_classes_of_a_known_task_are_in_question(run: Any) -> None:
    expected = accuracies(run, run.known_task)
    assert not np.allclose(expected, accuracies(run, not run.known_task))
    history = run.federation.history
    found = [[row[f"task/accuracy/{task}"] for task in TASKS] for row in history]
    np.testing.assert_allclose(found, expected[1:], atol=1e-6)


def test_the_indices_of_the_matrix(run: Any) -> None:
    whole = accuracies(run, run.known_task)
    r, chance, last = whole[1:], 0.5, len(TASKS) - 1
    above = np.clip((r - chance) / (1 - chance), 0, None)
    best = [above[j:last, j].max() for j in range(last)]
    kept = [min(1.0, above[last, j] / b) if b > 0 else 0.0 for j, b in enumerate(best)]
    row = run.federation.history[-1]
    assert row["index/SRS"] == pytest.approx(100 * np.mean(kept), abs=1e-3)
    assert row["index/TTA"] == pytest.approx(100 * np.mean([r[0, 1], r[1, 2]]), abs=1e-3)
    backward = np.mean([r[last, j] - r[j, j] for j in range(last)])
    assert row["index/BWT"] == pytest.approx(100 * backward, abs=1e-3)
    forward = np.mean([r[0, 1] - whole[0, 1], r[1, 2] - whole[0, 2]])
    assert row["index/FWT"] == pytest.approx(100 * forward, abs=1e-3)
    assert row["index/LA"] == pytest.approx(100 * np.mean(np.diag(r)), abs=1e-3)


def test_the_shifted_sets_all_count_alike(run: Any) -> None:
    differ = False
    for number, row in enumerate(run.federation.history):
        values = []
        for name in ("old", "new"):
            labels = np.array(run.datamodule.tests[name]["label"])
            guessed = run.witness.logits[number + 1][name].argmax(-1)
            values.append((guessed == labels).mean())
            assert row[f"shift/accuracy/{name}"] == pytest.approx(values[-1])
        assert row["index/GuS"] == pytest.approx(100 * np.mean(values), abs=1e-3)
        assert row["index/GuS/worst"] == pytest.approx(100 * min(values), abs=1e-3)
        differ |= abs(values[0] - values[1]) > 0.02
    assert differ


def test_representations_are_compared_with_those_after_every_earlier_task(run: Any) -> None:
    _, first, second, third = run.witness.states
    similar = [
        [unbiased_cka(then, now) for then, now in zip(earlier, third, strict=True)]
        for earlier in (first, second)
    ]
    found = run.federation.history[-1]["index/RSI"]
    assert found == pytest.approx(100 * np.mean(similar), abs=1e-2)
    means = np.mean(similar, 1)
    assert abs(means[0] - means[1]) > 1e-3
    assert "index/RSI" not in run.federation.history[0]


def test_what_changes_counts_for_each_client_and_tensor(run: Any) -> None:
    found = [row["index/PE"] for row in run.federation.history]
    assert found == pytest.approx(run.witness.updates, rel=1e-5)
