"""The strength of each loss term beside the task's: its value, where it is measured, and what is said of it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from lit_fed import DDG, DDGMSI, MSI, FedAvg, FederatedModule, Payload
from lit_fed.callbacks import TermStrength
from lit_fed.federation import ShardedClients, VectorizedClients
from lit_fed.methods.ddg import ClassConsensus
from tests.federation.execution.agreement import sgd
from tests.federation.toy import toy_backbone, toy_data, toy_trainer
from tests.methods.toy_methods import classify

TERMS = ("distill", "align", "aggregate", "stability")


class Recording(DDGMSI):
    """Keeps the terms of its last step."""

    def total_loss(self, task: Tensor, **terms: Tensor) -> Tensor:
        self.kept = task, terms
        return super().total_loss(task, **terms)


def fit(
    module: FederatedModule, root: Path, callback: TermStrength | None, **settings: Any
) -> tuple[Any, list[str]]:
    """A small run, and what it says of strengths."""
    callbacks = [] if callback is None else [callback]
    given = {"max_rounds": 2, "local_steps": 3, "clients_per_round": 4, "test_at_end": False}
    trainer = toy_trainer(root, callbacks=callbacks, **given | settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, toy_data())
    said = [str(one.message) for one in caught]
    return trainer, [one for one in said if "TermStrength" in one or "loss term" in one]


def strengths(row: dict[str, float], end: str = "/mean") -> dict[str, float]:
    prefix = "clients/strength/"
    return {
        name.removeprefix(prefix).removesuffix(end): value
        for name, value in row.items()
        if name.startswith(prefix) and name.endswith(end)
    }


def test_a_strength_is_the_ratio_of_the_gradients_norms(toy_model: Path) -> None:
    data = toy_data()
    data.setup()
    # a projector stands for what trains outside the backbone
    module = classify(Recording, toy_model, inject_every=1, align_projector=nn.Linear(32, 32))
    module.datamodule = data
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update(
        {name: float(torch.as_tensor(value).detach())}
    )  # type: ignore[method-assign]
    probs = torch.rand(24, 2, generator=torch.Generator().manual_seed(0)).softmax(-1).half()
    weights = Payload(module.backbone.trainable(), parts={"consensus": Payload({"probs": probs})})
    module.download(weights)
    with torch.no_grad():
        for value in module.backbone.trainable().values():
            value += 0.05
    callback = TermStrength(every_n_steps=1)
    callback.on_train_batch_start(None, module, None, 0)
    batch = next(iter(data.dataloader(data.clients[0].rows, module.tokenizer)))
    module.training_step(batch, 0)
    task, terms = module.kept

    def norm(loss: Tensor) -> float:
        module.zero_grad()
        loss.backward(retain_graph=True)
        grads = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
        return float(torch.cat(grads).norm())

    for name in TERMS:
        expected = norm(terms[name]) / norm(task)
        assert logged[f"strength/{name}"] == pytest.approx(expected, rel=1e-4)
    assert "strength/weight_regularization" not in logged


def test_it_changes_nothing_and_is_the_same_vectorized(toy_model: Path, tmp_path: Path) -> None:
    def module() -> FederatedModule:
        backbone = toy_backbone(toy_model)  # which seeds torch
        projector = nn.Linear(32, 32)
        return DDGMSI(backbone, inject_every=2, optimizer=sgd, align_projector=projector)

    bare, _ = fit(module(), tmp_path / "bare", None)
    alone, _ = fit(module(), tmp_path / "alone", TermStrength(2))
    assert alone.federation.broadcast == bare.federation.broadcast
    execution = VectorizedClients(3)
    together, _ = fit(module(), tmp_path / "together", TermStrength(2), execution=execution)
    first, second = alone.federation.history
    assert strengths(first).keys() == {"distill", "align", "stability"}
    assert strengths(second).keys() == set(TERMS)
    for ours, theirs in zip(together.federation.history, alone.federation.history, strict=True):
        for end in ("/mean", "/min", "/max"):
            assert strengths(ours, end) == pytest.approx(strengths(theirs, end), rel=1e-3)


def test_steps_that_are_not_due_take_no_gradients(toy_model: Path, tmp_path: Path) -> None:
    steps: list[int] = []

    class Counting(DDGMSI):
        def loss_gradients(self, loss: Tensor) -> list[Tensor]:
            steps.append(self.own_step)
            return super().loss_gradients(loss)

    module = classify(Counting, toy_model, inject_every=3)
    fit(module, tmp_path, TermStrength(2), max_rounds=3, clients_per_round=1, local_steps=4)
    # a client's: the task with two terms or three, and by the injection with one
    assert {step for step in steps if step % 2 == 0} <= {0, 6}
    assert {step for step in steps if step % 2} <= {1, 3, 5, 7, 9, 11}
    assert module.term_listener is None
    assert module.gradient_taker is None


def test_a_term_that_does_nothing_is_named_once(toy_model: Path, tmp_path: Path) -> None:
    consensus = ClassConsensus()
    module = classify(DDG, toy_model, lambda_align=1e-9, consensus=consensus)
    callback = TermStrength(every_n_steps=3)
    trainer, said = fit(module, tmp_path, callback, max_rounds=3)
    (message,) = said
    assert message.startswith("round 1: the gradient of the loss term `align` is ")
    row = trainer.federation.history[0]
    assert 0 < strengths(row, "/max")["align"] < 0.01 < strengths(row, "/max")["distill"]
    # also by a run that goes on
    other = TermStrength(every_n_steps=3)
    other.load_state_dict(callback.state_dict())
    module = classify(DDG, toy_model, lambda_align=1e-9, consensus=ClassConsensus())
    _, said = fit(module, tmp_path / "later", other)
    assert said == []


def test_what_is_not_measured_is_said(toy_model: Path, tmp_path: Path) -> None:
    _, said = fit(classify(FedAvg, toy_model), tmp_path / "a", TermStrength(1))
    assert said[0].startswith(
        "TermStrength has measured nothing: FedAvg gives `total_loss` no term"
    )
    _, said = fit(classify(DDG, toy_model), tmp_path / "b", TermStrength(99))
    assert said[0].endswith("no client has taken `every_n_steps` 99 steps")


def test_it_listens_in_a_stock_trainer(toy_model: Path, tmp_path: Path) -> None:
    data = toy_data()
    module = classify(MSI, toy_model, inject_every=2)
    trainer = Trainer(
        max_steps=4,
        accelerator="cpu",
        logger=CSVLogger(tmp_path),
        log_every_n_steps=1,
        callbacks=TermStrength(1),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(module, data)
    assert trainer.logged_metrics["strength/stability"] > 0


def test_where_there_are_no_gradients_of_a_term_it_is_refused(
    toy_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"TermStrength expects a `trainer.execution`.*Sharded"):
        fit(
            classify(FedAvg, toy_model),
            tmp_path,
            TermStrength(),
            execution=ShardedClients(),
        )
    with pytest.raises(ValueError, match=r"TermStrength expects `trainer.compile` to be false"):
        fit(classify(FedAvg, toy_model), tmp_path, TermStrength(), compile=True)
    with pytest.raises(ValueError, match="`every_n_steps` is expected"):
        TermStrength(every_n_steps=0)
    with pytest.raises(ValueError, match="`inert` is expected"):
        TermStrength(inert=-0.1)
