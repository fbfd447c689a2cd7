from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from datasets import Dataset
from lightning.pytorch import Callback
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, StepLR
from torchmetrics import SumMetric

from lit_fed import DDG, FedAvg, Payload
from lit_fed.attachment import Attachment
from lit_fed.federation import ClientExecution, SequentialClients, VectorizedClients
from lit_fed.federation.client.results import ClientRound, Finished
from lit_fed.stage import Stage
from tests.federation.client.run_client_round import SETTINGS
from tests.federation.protocol_methods import TwoAdapters, task_loss
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_module, toy_trainer
from tests.slow import slow_but

EXECUTIONS: list[ClientExecution] = [SequentialClients(), VectorizedClients(clients_at_once=2)]


class Updates(Callback):
    """Keeps what each client has sent in its last round."""

    def __init__(self) -> None:
        self.of: dict[str, Any] = {}

    def on_client_end(self, trainer: Any, module: Any, update: Any) -> None:
        self.of[update.client_id] = update


# ---------------------------------------------------------------- without a trainer


@pytest.mark.slow
def test_a_client_runs_in_a_process_that_has_nothing_else(toy_model: Path, tmp_path: Path) -> None:
    """Its second round, with a private adapter, moments and a warm-up under way, is the trainer's."""
    updates = Updates()
    trainer = toy_trainer(
        tmp_path / "run", max_rounds=1, clients_per_round=1.0, callbacks=[updates], **SETTINGS
    )

    def module() -> TwoAdapters:
        return TwoAdapters(toy_backbone(toy_model, 0.1), optimizer=fast_adamw, warmup_steps=3)

    trainer.fit(module(), toy_data())
    state, selection = trainer.federation, trainer._loop.selection
    client = selection.client_at(state, 2)
    start = ClientRound(client, state.broadcast, state.clients[client.id])
    assert start.before.private
    assert start.before.optimizer

    (tmp_path / "start").write_bytes(start.to_bytes())
    trainer.datamodule.client_data(client.id).rows.save_to_disk(str(tmp_path / "rows"))
    script = Path(__file__).with_name("run_client_round.py")
    given = [toy_model, *(tmp_path / name for name in ("rows", "start", "end"))]
    command = [sys.executable, str(script), *map(str, given)]
    environment = {"PYTHONPATH": str(Path(__file__).parents[3])}
    subprocess.run(command, check=True, env=os.environ | environment)
    finished = Finished.from_bytes((tmp_path / "end").read_bytes())

    goes_on = toy_trainer(
        tmp_path / "run", max_rounds=2, clients_per_round=1.0, callbacks=[updates], **SETTINGS
    )
    goes_on.fit(module(), toy_data(), ckpt_path="last")
    assert finished.update == updates.of[client.id]
    assert finished.state == goes_on.federation.clients[client.id]
    assert finished.state.steps > start.before.steps


# ---------------------------------------------------------------- Lightning's hooks

HOOKS = (
    "on_train_start",
    "on_train_epoch_start",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
    "on_train_batch_start",
    "optimizer_step",
    "training_step",
    "on_before_zero_grad",
    "optimizer_zero_grad",
    "on_before_backward",
    "backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "on_train_batch_end",
    "on_train_epoch_end",
    "on_train_end",
)


class Recorded(FedAvg):
    """Notes which of its hooks are called, and with which numbers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[tuple[Any, ...]] = []

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)
        return [optimizer], [StepLR(optimizer, 1)]


def _recording(name: str) -> Any:
    def hook(self: Recorded, *args: Any, **kwargs: Any) -> Any:
        numbers = [a for a in args if isinstance(a, int) and name != "lr_scheduler_step"]
        numbers += [v for v in kwargs.values() if isinstance(v, int)]
        self.calls.append((name, *numbers))
        return getattr(super(Recorded, self), name)(*args, **kwargs)

    return hook


for _name in HOOKS:
    setattr(Recorded, _name, _recording(_name))


@pytest.mark.parametrize("accumulated", [1, 2])
def test_hooks_are_called_as_a_stock_trainer_calls_them(
    accumulated: int, toy_model: Path, tmp_path: Path
) -> None:
    data = toy_data(num_clients=1)
    data.setup()
    ours = Recorded(toy_backbone(toy_model), warmup_steps=0)
    trainer = toy_trainer(
        tmp_path,
        max_rounds=1,
        clients_per_round=1,
        local_epochs=2,
        limit_train_batches=3,
        accumulate_grad_batches=accumulated,
    )
    trainer.fit(ours, data)

    stock = Recorded(toy_backbone(toy_model), warmup_steps=0)
    lightning.Trainer(
        max_epochs=2,
        limit_train_batches=3,
        limit_val_batches=0,
        accumulate_grad_batches=accumulated,
        gradient_clip_val=1.0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(stock, datamodule=data)
    assert [name for name, *_ in stock.calls].count("training_step") == 6
    assert ours.calls == stock.calls


class OwnStep(FedAvg):
    """Bounds its gradients and steps in ways of its own."""

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        self.clip_gradients(optimizer, 1e-3, "value")
        top = max(float(p.grad.abs().max()) for g in optimizer.param_groups for p in g["params"])
        assert top <= 1e-3 * (1 + 1e-6)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, closure: Any) -> None:
        closure()
        if batch_idx == 0:  # a step that is not taken
            return
        optimizer.step()


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_method_may_clip_and_step_by_itself(
    execution: ClientExecution, toy_model: Path, tmp_path: Path
) -> None:
    def sgd(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1.0)

    module = OwnStep(toy_backbone(toy_model), optimizer=sgd, warmup_steps=0)
    before = Payload(module.backbone.trainable())
    settings = {"max_rounds": 1, "limit_train_batches": 2, "clients_per_round": 1.0}
    trainer = toy_trainer(tmp_path, execution=execution, **settings)
    trainer.fit(module, toy_data())
    assert not trainer.federation.failures
    moved = [
        float((tensor - before.tensors[name]).abs().max())
        for name, tensor in trainer.federation.broadcast.tensors.items()
    ]
    assert 1e-4 < max(moved) <= 1e-3 * (1 + 1e-5)  # one step of two, each value bounded


class OwnBackward(FedAvg):
    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        (2 * loss).backward()


def test_a_backward_of_its_own_is_called_or_refused(toy_model: Path, tmp_path: Path) -> None:
    def module() -> OwnBackward:
        return OwnBackward(toy_backbone(toy_model), optimizer=fast_adamw, warmup_steps=0)

    settings = {"max_rounds": 1, "local_steps": 1}
    trainer = toy_trainer(tmp_path / "a", **settings)
    trainer.fit(module(), toy_data())
    assert not trainer.federation.failures
    vectorized = toy_trainer(tmp_path / "b", execution=VectorizedClients(2), **settings)
    with pytest.raises(ValueError, match=r"VectorizedClients cannot run OwnBackward\.backward"):
        vectorized.fit(module(), toy_data())


class Skips(FedAvg):
    """Leaves the rest of a pass over the rows out after its first batch."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        return -1 if batch_idx == 1 else None


def test_minus_one_skips_the_rest_of_a_pass(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, max_rounds=1, clients_per_round=1.0, local_epochs=2)
    trainer.fit(Skips(toy_backbone(toy_model), optimizer=fast_adamw, warmup_steps=0), toy_data())
    assert {state.steps for state in trainer.federation.clients.values()} == {2}


class EpochSchedule(FedAvg):
    """Halves its learning rate with each pass over the rows, and notes it."""

    rates: tuple[float, ...] = ()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=1.0)
        schedule = LambdaLR(optimizer, lambda epoch: 0.5**epoch)
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.rates = (*self.rates, optimizer.param_groups[0]["lr"])


def test_a_schedule_counts_passes_unless_it_says_steps(toy_model: Path, tmp_path: Path) -> None:
    module = EpochSchedule(toy_backbone(toy_model), warmup_steps=0)
    settings = {"limit_train_batches": 2, "local_epochs": 2, "clients_per_round": 1}
    toy_trainer(tmp_path, max_rounds=1, **settings).fit(module, toy_data())
    assert module.rates == (1.0, 1.0, 0.5, 0.5)


class ManualOptimization(FedAvg):
    automatic_optimization = False


def test_manual_optimization_is_refused(toy_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`automatic_optimization` of ManualOptimization .* true"):
        toy_trainer(tmp_path).fit(ManualOptimization(toy_backbone(toy_model)), toy_data())


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_a_callback_that_raises_ends_the_run(
    execution: ClientExecution, toy_model: Path, tmp_path: Path
) -> None:
    class Broken(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
            raise ZeroDivisionError("a callback's own mistake")

    trainer = toy_trainer(tmp_path, max_rounds=1, execution=execution, callbacks=[Broken()])
    with pytest.raises(ZeroDivisionError, match="a callback's own mistake"):
        trainer.fit(toy_module(toy_model), toy_data())
    assert not trainer.federation.failures


# ---------------------------------------------------------------- attachments


class LabelFlip(Attachment):
    """Exchanges the labels of two classes."""

    def rows(self, client: Any, rows: Dataset) -> Dataset:
        flipped = [1 - label for label in rows["label"]]
        return rows.remove_columns("label").add_column("label", flipped)


class Doubled(Attachment):
    """Doubles what the client has changed, and counts its rounds."""

    def upload(
        self, client: Any, upload: Payload, broadcast: Payload, memory: Payload
    ) -> tuple[Payload, Payload]:
        sent = {n: 2 * t - broadcast.tensors[n] for n, t in upload.tensors.items()}
        done = memory.tensors["rounds"] + 1 if memory else torch.ones(1)
        return Payload(sent), Payload({"rounds": done})


@pytest.mark.parametrize("execution", slow_but(EXECUTIONS[1], of=EXECUTIONS))
def test_rows_and_uploads_are_changed_from_outside(
    execution: ClientExecution, toy_model: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"execution": execution, "clients_per_round": 1.0, "max_rounds": 2}

    def sent(
        folder: str, attachments: list[Attachment], ckpt_path: str | None = None, **given: Any
    ) -> tuple[Any, Updates]:
        updates = Updates()
        trainer = toy_trainer(
            tmp_path / folder,
            callbacks=[updates],
            attachments=attachments,
            **settings | given,
        )
        trainer.fit(toy_module(toy_model, dropout=0.0), toy_data(), ckpt_path)
        return trainer, updates

    honest, clean = sent("clean", [], max_rounds=1)
    names = [client.id for client in honest.datamodule.clients]

    _, flipped = sent("flipped", [LabelFlip(clients=[names[1]])], max_rounds=1)
    same = {name: clean.of[name].payload == flipped.of[name].payload for name in names}
    assert same == {name: name != names[1] for name in names}

    _, doubled = sent("doubled", [Doubled(clients=[names[2]])], max_rounds=1)
    start = honest.federation  # the first broadcast is the model as it was built
    built = toy_module(toy_model, dropout=0.0).backbone.trainable()
    for name, tensor in doubled.of[names[2]].payload.tensors.items():
        once = clean.of[names[2]].payload.tensors[name] - built[name].detach()
        torch.testing.assert_close(tensor - built[name].detach(), 2 * once, rtol=1e-5, atol=1e-7)
    assert start.round == 1

    def attachments() -> list[Attachment]:
        return [LabelFlip([names[1]]), Doubled([names[2]])]

    whole, _ = sent("whole", attachments())
    kept = whole.federation.clients[names[2]].attachments.parts
    assert {name: payload.tensors["rounds"].item() for name, payload in kept.items()} == {
        "Doubled.0": 2.0
    }
    assert not whole.federation.clients[names[1]].attachments
    sent("parts", attachments(), max_rounds=1)
    resumed, _ = sent("parts", attachments(), ckpt_path="last")
    assert resumed.federation.broadcast == whole.federation.broadcast
    assert resumed.federation.clients == whole.federation.clients


class LyingTeacher(Attachment):
    """A teacher that is sure of the first class."""

    def teacher_prediction(self, client: Any, batch: Any, prediction: Any) -> Any:
        logits = torch.zeros_like(prediction.logits)
        logits[:, 0] = 9.0
        return replace(prediction, logits=logits)


@pytest.mark.parametrize("execution", slow_but(EXECUTIONS[1], of=EXECUTIONS))
def test_teachers_predictions_are_changed_from_outside(
    execution: ClientExecution, toy_model: Path, tmp_path: Path
) -> None:
    def first_class(folder: str, attachments: list[Attachment]) -> float:
        module = DDG(
            toy_backbone(toy_model, 0.0),
            optimizer=fast_adamw,
            warmup_steps=0,
            lambda_distill=5.0,
            lambda_aggregate=0.0,
        )
        settings = {"max_rounds": 3, "clients_per_round": 1.0, "execution": execution}
        trainer = toy_trainer(tmp_path / folder, attachments=attachments, **settings)
        trainer.fit(module, toy_data())
        assert module.teacher.transform is None
        with torch.no_grad():
            logits = [o["logits"] for o in trainer.predict(module)]
        return float(torch.cat(logits).softmax(-1)[:, 0].mean())

    assert first_class("honest", []) < 0.7
    assert first_class("lying", [LyingTeacher()]) > 0.8


def test_an_attachment_needs_something_to_act_on(toy_model: Path, tmp_path: Path) -> None:
    module, data = toy_module(toy_model), toy_data()
    lying = toy_trainer(tmp_path, attachments=[LyingTeacher()])
    with pytest.raises(ValueError, match=r"LyingTeacher .* a method with a teacher, but FedAvg"):
        lying.fit(module, data)
    elsewhere = toy_trainer(tmp_path, attachments=[LabelFlip(clients=["mars"])])
    with pytest.raises(ValueError, match=r"LabelFlip acts on clients .* client-0.* but got mars"):
        elsewhere.fit(module, data)


# ---------------------------------------------------------------- stages


class Stages(TwoAdapters):
    """Two stages with steps, optimizers and warm-ups of their own; notes their learning rates."""

    stages = (
        Stage("private", local_steps=2, warmup_steps=4),
        Stage("shared", lambda p: torch.optim.SGD(p, lr=0.5), local_epochs=1),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rates: dict[str, list[float]] = {"private": [], "shared": []}

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return task_loss(self, batch)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.rates[self.stage.name].append(optimizer.param_groups[0]["lr"])


def test_a_stage_has_its_own_steps_optimizer_and_warm_up(toy_model: Path, tmp_path: Path) -> None:
    module = Stages(toy_backbone(toy_model), optimizer=fast_adamw, warmup_steps=2)
    settings = {"clients_per_round": 1, "local_steps": 7, "limit_train_batches": 3}
    trainer = toy_trainer(tmp_path, max_rounds=2, callbacks=[Updates()], **settings)
    trainer.fit(module, toy_data(num_clients=1))
    # each warm-up is counted in the stage's own steps, over both rounds
    assert module.rates["private"] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert module.rates["shared"] == pytest.approx([0.25, 0.5, 0.5, 0.5, 0.5, 0.5])
    (state,) = trainer.federation.clients.values()
    assert state.stage_steps == {"private": 4, "shared": 6}
    assert state.steps == 10


def test_a_stage_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match=r"`stages.x.local_steps` .* at least 1, but got 0"):
        Stage("x", local_steps=0)


class Remembers(Attachment):
    """Adds to what it remembers, and sends what it was given."""

    def upload(
        self, client: Any, upload: Payload, broadcast: Payload, memory: Payload
    ) -> tuple[Payload, Payload]:
        count = memory.tensors.get("count", torch.zeros(1))
        return upload, Payload({"count": count + 1})


class RemembersToo(Remembers):
    pass


def test_a_memory_stays_with_its_attachment_where_others_come_and_go(
    toy_model: Path, tmp_path: Path
) -> None:
    def fit(attachments: list[Attachment], rounds: int, **given: Any) -> dict[str, float]:
        trainer = toy_trainer(
            tmp_path, attachments=attachments, max_rounds=rounds, clients_per_round=1.0, **given
        )
        trainer.fit(toy_module(toy_model), toy_data(), "last" if rounds > 1 else None)
        kept = trainer.federation.clients["client-0"].attachments.parts
        return {name: float(own.tensors["count"]) for name, own in kept.items()}

    assert fit([Remembers(), RemembersToo()], 1) == {"Remembers.0": 1, "RemembersToo.0": 1}
    others = fit([RemembersToo(), Remembers(), Remembers()], 2, resume_with_changes=True)
    assert others == {"RemembersToo.0": 2, "Remembers.0": 2, "Remembers.1": 1}
    assert fit([RemembersToo()], 3, resume_with_changes=True) == {"RemembersToo.0": 3}


def test_every_client_begins_with_the_first_scale_of_losses(
    toy_model: Path, tmp_path: Path
) -> None:
    trainer, module, data = toy_trainer(tmp_path, max_rounds=1), toy_module(toy_model), toy_data()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    seen: list[float] = []

    class Overflows(Callback):
        def on_client_start(self, trainer: Any, module: Any, client: Any) -> None:
            seen.append(scaler.get_scale())

        def on_client_end(self, trainer: Any, module: Any, update: Any) -> None:
            scaler.update(2.0)  # as where steps were skipped

    scaler.scale(torch.ones(1))  # it has a scale from here on
    trainer.callbacks.append(Overflows())
    # there is one on a GPU; that of a CPU scales nothing here
    trainer.fabric.strategy.precision.scaler = scaler
    trainer.fit(module, data)
    assert seen == [1024.0] * 3


# ---------------------------------------------------------------- what is counted


class _NoLuck(torch.autograd.Function):
    """The value, of which no gradient can be taken."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise ValueError("no luck")


class Counting(FedAvg):
    """Counts rows by torchmetrics, until client 1 fails in the middle of training, and client 3 of validation."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.trained, self.validated = SumMetric(), SumMetric()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.trained.update(len(batch["labels"]))
        self.log("train/rows", self.trained)
        assert self.client is not None
        failing = self.client.index == 1 and batch_idx == 2
        return _NoLuck.apply(loss) if failing else loss

    def validation_step(
        self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        super().validation_step(batch, batch_idx)
        self.validated.update(len(batch["labels"]))
        self.log("val/rows", self.validated)
        if self.client is not None and self.client.index == 3 and batch_idx == 1:
            raise ValueError("no luck")


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_what_a_client_that_fails_has_counted_is_nobody_elses(
    execution: ClientExecution, toy_model: Path, tmp_path: Path
) -> None:
    updates = Updates()
    trainer = toy_trainer(
        tmp_path,
        max_rounds=1,
        clients_per_round=1.0,
        callbacks=[updates],
        execution=execution,
        validate_clients=True,
        test_at_end=False,
    )
    trainer.fit(Counting(toy_backbone(toy_model)), toy_data(batch_size=4, eval_batch_size=8))
    assert set(trainer.federation.failures) == {"client-1", "client-3"}
    rows = {client.id: len(client.rows) for client in trainer.datamodule.clients}
    told = {id: update.metrics["train/rows"] for id, update in updates.of.items()}
    assert told == {id: rows[id] for id in ("client-0", "client-2")}
    assert trainer.federation.history[-1]["val/rows"] == 40
