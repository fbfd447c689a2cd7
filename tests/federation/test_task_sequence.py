"""A federation that goes through a sequence of tasks, and what is evaluated after each."""

import csv
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_fed.callbacks import (
    ParameterChange,
    RepresentationStability,
    ShiftEvaluation,
    TaskEvaluation,
)
from lit_fed.federation import last_checkpoint
from lit_fed.metrics import (
    changed_share,
    debiased_linear_cka,
    semantic_retention,
    task_transfer,
)
from tests.federation.task_sequence import TASKS, task_data
from tests.federation.toy import toy_module, toy_trainer, without_times
from tests.slow import slow_but


def indices(every_n_rounds: int | None = None) -> list[Callback]:
    return [
        TaskEvaluation(every_n_rounds),
        ShiftEvaluation(every_n_rounds),
        RepresentationStability(every_n_rounds, num_probes=16),
        ParameterChange(),
    ]


def sequence_trainer(root: Path, *callbacks: Callback, **settings: Any) -> Any:
    given: dict[str, Any] = {
        "rounds_per_task": 2,
        "clients_per_round": 1.0,
        "local_epochs": 4,
        "callbacks": list(callbacks),
    }
    return toy_trainer(root, **given | settings)


class Witness(Callback):
    """Who trained on what, and the models and uploads of every round."""

    def __init__(self) -> None:
        self.seen: list[dict[str, set[int]]] = []
        self.tasks: list[str | None] = []
        self.sizes: list[list[int]] = []
        self.shares: list[float] = []
        self.changes: list[float] = []
        self.probes: list[list[torch.Tensor]] = []

    def on_round_start(self, trainer: Any, module: Any, clients: Any) -> None:
        self.seen.append({client.id: set() for client in clients})
        self.sizes.append([client.num_samples for client in clients])
        self.tasks += list({client.task for client in clients})

    def on_train_batch_end(self, trainer: Any, module: Any, loss: Any, batch: Any, i: int) -> None:
        self.seen[-1][module.client.id] |= set(batch["index"].tolist())

    def on_aggregate_end(self, trainer: Any, module: Any, updates: Any) -> None:
        before = trainer.federation.broadcast.tensors
        total = sum(p.numel() for p in module.backbone.model.parameters())
        shares = [changed_share(before, u.payload.tensors, total) for u in updates]
        moved = [
            sum(float((u.payload.tensors[n] - w).square().sum()) for n, w in before.items())
            for u in updates
        ]
        size = sum(float(w.square().sum()) for w in before.values())
        self.changes.append(100 * sum((m / size) ** 0.5 for m in moved) / len(moved))
        self.shares.append(100 * float(sum(shares)) / len(shares))

    @torch.no_grad()
    def on_round_end(self, trainer: Any, module: Any, metrics: Any) -> None:
        trainer.act_as_server().eval()
        rows = trainer.datamodule.validation.select(range(0, 32, 2))
        (batch,) = module.batches(rows)
        states = module.backbone.model.base_model.model.bert(
            **{k: batch[k] for k in ("input_ids", "attention_mask")}, output_hidden_states=True
        ).hidden_states
        mask = batch["attention_mask"].unsqueeze(-1).float()
        self.probes.append([(s * mask).sum(1) / mask.sum(1) for s in states[1:]])


@pytest.fixture(scope="module")
def whole(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    witness = Witness()
    root = tmp_path_factory.mktemp("sequence") / "run"
    trainer = sequence_trainer(root, *indices(1), witness, loggers=True)
    trainer.fit(toy_module(toy_model), task_data())
    trainer.witness = witness
    return trainer


def test_goes_through_the_tasks_in_order(whole: Any) -> None:
    assert whole.max_rounds == whole.current_round == 4
    assert whole.witness.tasks == ["first", "first", "second", "second"]
    assert [len(clients) for clients in whole.witness.seen] == [4, 4, 3, 3]
    assert "owner 3" not in whole.witness.seen[2]
    # the rows of the first task are the first 48 of the table
    for number, clients in enumerate(whole.witness.seen):
        rows = set().union(*clients.values())
        assert rows == set(range(48) if number < 2 else range(48, 96))
    assert [sum(sizes) for sizes in whole.witness.sizes] == [48] * 4


def test_a_client_keeps_its_own_count_of_steps(whole: Any) -> None:
    clients = whole.federation.clients
    assert clients["owner 0"].rounds == 4
    assert clients["owner 3"].rounds == 2


def test_the_matrix_holds_the_accuracies_after_each_task(whole: Any) -> None:
    history = whole.federation.history
    matrix = torch.tensor([[history[n][f"task/accuracy/{task}"] for task in TASKS] for n in (1, 3)])
    with (whole.log_dir / "task_matrix.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["after", *TASKS]
    assert [row[0] for row in rows[1:]] == TASKS
    written = torch.tensor([[float(cell) for cell in row[1:]] for row in rows[1:]])
    torch.testing.assert_close(written, matrix)

    # the accuracies are those of the model, as an independent evaluation of the last one finds them
    test = whole.datamodule.tests["test"]
    module = whole.act_as_server().eval()
    for number, task in enumerate(TASKS):
        rows = test.filter(lambda row, wanted=task: row["task"] == wanted)
        (batch,) = module.batches(rows)
        with torch.no_grad():
            correct = module(batch).logits.argmax(-1) == batch["labels"]
        assert correct.float().mean().item() == pytest.approx(matrix[1, number].item())

    # both classes are equally frequent
    retained = semantic_retention(matrix, chance=0.5)
    assert history[-1]["index/SRS"] == pytest.approx(retained.item(), abs=1e-3)
    assert history[-1]["index/TTA"] == pytest.approx(task_transfer(matrix).item())
    assert "index/SRS" not in history[1]
    row = history[-1]
    assert row["index/LA"] == pytest.approx(50 * float(matrix[0, 0] + matrix[1, 1]))
    assert row["index/BWT"] == pytest.approx(100 * float(matrix[1, 0] - matrix[0, 0]), abs=1e-3)
    gains = [2 * max(0.0, float(a) - 0.5) for a in (matrix[1, 0], matrix[0, 0])]
    assert row["index/SRS/since_learnt"] == pytest.approx(100 * gains[0] / gains[1], abs=1e-2)
    # 20 test rows of the second task; Jeffreys' share
    share = (20 * float(matrix[0, 1]) + 0.5) / 21
    assert row["index/TTA/error"] == pytest.approx(100 * (share * (1 - share) / 20) ** 0.5)
    # swapped labels: what helps the first task ruins the second
    assert matrix[0, 0] > 0.7 > 0.4 > matrix[0, 1]


def test_the_other_indices_are_those_of_the_models(whole: Any) -> None:
    history, witness = whole.federation.history, whole.witness
    assert [row["index/PE"] for row in history] == pytest.approx(witness.shares)
    assert 0 < history[0]["index/PE"] < 100
    cka = [
        debiased_linear_cka(then, now).clamp(0, 1)
        for then, now in zip(witness.probes[1], witness.probes[3], strict=True)
    ]
    assert history[3]["index/RSI"] == pytest.approx(100 * float(sum(cka)) / 2, abs=1e-3)
    assert history[3]["index/RSI"] < 99.9
    assert "index/RSI" not in history[1]
    assert 0 < history[3]["index/RSI/error"] < 20
    assert 0 < history[1]["index/RSI/perturbed"] < 99.9
    gus = history[3]["index/GuS"] / 100
    assert history[3]["index/GuS/above_chance"] == pytest.approx(
        100 * max(0, 2 * gus - 1), abs=1e-3
    )
    main = whole.final_metrics["test/accuracy"]
    assert history[3]["index/GuS/ratio"] == pytest.approx(100 * gus / main)
    assert [row["index/PE/relative_change"] for row in history] == pytest.approx(witness.changes)
    assert all(0 <= row["index/PE/above_rms"] <= row["index/PE"] for row in history)
    assert history[3]["index/GuS"] == pytest.approx(100 * history[3]["shift/accuracy/shifted"])
    assert whole.final_metrics["test/accuracy/shifted"] == history[3]["shift/accuracy/shifted"]


def test_tensorboard_has_the_matrix_as_an_image(whole: Any) -> None:
    events = EventAccumulator(str(whole.log_dir), size_guidance={"images": 0})
    events.Reload()
    images = events.Images("task/matrix")
    assert [image.step for image in images] == [1, 2, 3, 4]
    assert images[-1].encoded_image_string.startswith(b"\x89PNG")
    assert [e.step for e in events.Scalars("index/SRS")] == [3, 4]


@pytest.mark.parametrize("rounds", slow_but(2, of=[1, 2, 3]))
def test_a_sequence_goes_on_bit_for_bit(
    rounds: int, toy_model: Path, tmp_path: Path, whole: Any
) -> None:
    class Interrupt(Callback):
        """Strikes in the middle of the evaluation after a round."""

        def on_test_batch_start(self, trainer: Any, *_: Any) -> None:
            if trainer.current_round == rounds + 1:
                signal.raise_signal(signal.SIGINT)

    broken = sequence_trainer(tmp_path / "run", *indices(1), Interrupt())
    with pytest.warns(UserWarning, match=f"interrupted after {rounds} finished rounds"):
        broken.fit(toy_module(toy_model), task_data())
    assert last_checkpoint(tmp_path / "run").name == f"round=000{rounds}"
    resumed = sequence_trainer(tmp_path / "run", *indices(1))
    resumed.fit(toy_module(toy_model), task_data(), ckpt_path="last")
    assert without_times(resumed.federation.history) == without_times(whole.federation.history)
    names = [root / "task_matrix.csv" for root in (resumed.log_dir, whole.log_dir)]
    assert names[0].read_text() == names[1].read_text()
    ours, theirs = resumed.federation.broadcast, whole.federation.broadcast
    assert ours == theirs


def test_evaluates_after_each_task_unless_asked_for_more(toy_model: Path, tmp_path: Path) -> None:
    trainer = sequence_trainer(tmp_path / "run", *indices())
    trainer.fit(toy_module(toy_model), task_data())
    evaluated = ["task/accuracy/first" in row for row in trainer.federation.history]
    assert evaluated == [False, True, False, True]
    assert all("index/PE" in row for row in trainer.federation.history)


def test_transfer_after_adaptation(toy_model: Path, tmp_path: Path) -> None:
    tasks = TaskEvaluation(every_n_rounds=1, adaptation_rounds=1)
    trainer = sequence_trainer(tmp_path / "run", tasks)
    trainer.fit(toy_module(toy_model), task_data())
    history = trainer.federation.history
    assert "index/TTA" not in history[1]
    adapted = 100 * history[2]["task/accuracy/second"]
    assert [row["index/TTA"] for row in history[2:]] == pytest.approx([adapted, adapted])


def test_only_a_tasks_own_classes_are_in_question(toy_model: Path, tmp_path: Path) -> None:
    trainer = sequence_trainer(tmp_path / "run", rounds_per_task=1)
    module = toy_module(toy_model)
    trainer.fit(module, task_data())
    zeros = trainer.datamodule.tests["test"].filter(lambda row: row["label"] == 0)
    assert trainer.evaluate(zeros, [0])["test/accuracy"] == 1.0
    assert trainer.evaluate(zeros, [1])["test/accuracy"] == 0.0
    assert trainer.evaluate(zeros, [0, 1]) == trainer.evaluate(zeros)
    with pytest.raises(ValueError, match="`rows` of evaluate are expected to be one or more"):
        trainer.evaluate(zeros.select([]))


@pytest.mark.parametrize(
    ("settings", "data", "callback", "message"),
    [
        (
            {"rounds_per_task": 0},
            {},
            None,
            "`trainer.rounds_per_task` is expected to be at least 1",
        ),
        ({}, {"tasks": None}, None, "`trainer.rounds_per_task` is 2, .* but `data.tasks` is null"),
        ({}, {"tasks": ["first", "third"]}, None, r"`data.tasks` .* but got \['third'\]"),
        ({"rounds_per_task": None}, {}, TaskEvaluation(), "TaskEvaluation expects `trainer.rounds"),
        (
            {"rounds_per_task": None},
            {},
            RepresentationStability(),
            "RepresentationStability expects",
        ),
        (
            {},
            {"validation": None, "validation_fraction": 0.02},
            RepresentationStability(),
            "at least 4 rows of `data.validation` .* but there are 2",
        ),
        ({}, {"test": None}, TaskEvaluation(), "TaskEvaluation expects `data.test` to have rows"),
        (
            {},
            {"test": None},
            ShiftEvaluation(),
            "ShiftEvaluation expects `data.test` to have shift",
        ),
        (
            {},
            {},
            TaskEvaluation(adaptation_rounds=3),
            "at most `trainer.rounds_per_task` 2, but got",
        ),
        ({}, {}, TaskEvaluation(chance=[0.5]), "`chance` is expected to be a number or 2 numbers"),
        ({}, {}, TaskEvaluation(metric="f1"), r"`TaskEvaluation.metric` .* \['test/accuracy'"),
    ],
)
def test_what_does_not_fit_is_named(
    settings: Any, data: Any, callback: Any, message: str, toy_model: Path, tmp_path: Path
) -> None:
    given = [] if callback is None else [callback]
    with pytest.raises(ValueError, match=message):
        sequence_trainer(tmp_path / "run", *given, **settings).fit(
            toy_module(toy_model), task_data(**data)
        )


def test_no_index_is_gathered_from_processes_that_compute_alike(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process has all rows: what is gathered counts them as often as there are processes."""
    # gathering would fail, as there is no process group
    monkeypatch.setattr("torchmetrics.metric.jit_distributed_available", lambda: True)
    trainer = sequence_trainer(tmp_path, *indices(), local_epochs=1)
    trainer.fit(toy_module(toy_model), task_data())
    assert "index/RSI/perturbed" in trainer.federation.history[-1]
