"""Distillation by DP-SGD: the joint gradient of each row beside a plain loop, and what it refuses."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_fed import Distillation, DPDistillation, FederatedModule
from lit_fed.configuration_error import ConfigurationError
from lit_fed.data import IIDPartitioner
from lit_fed.methods.teachers import AdapterTeacher, FrozenTeacher
from lit_fed.privacy import DPSGD
from tests.federation.toy import toy_backbone, toy_data, toy_rows, toy_trainer, without_times
from tests.methods.distillation.toy_teachers import llama_classifier, llama_teacher, read_by
from tests.methods.plain_loop import logits, trained, under_names_of_payloads
from tests.methods.toy_methods import save_sober_model, save_toy_lm

LAMBDA, T, RATE, ROWS, BOUND = 0.7, 2.5, 0.2, 24, 1.0


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("student") / "model")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("llama") / "model")


def plain_sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=RATE)


def dp(folder: Path, teacher: Any = None, kind: type[FederatedModule] = DPDistillation) -> Any:
    backbone = toy_backbone(folder)
    with torch.no_grad():  # LoRA's B is 0 at first, and then A has no gradient
        for parameter in backbone.trainable().values():
            parameter += 0.1 * torch.randn(parameter.shape)
    settings = {"lambda_distill": LAMBDA, "temperature": T, "optimizer": plain_sgd}
    return kind(backbone, teacher=teacher, **settings)


def run(module: FederatedModule, root: Path, privacy: DPSGD | None, **settings: Any) -> Any:
    given = {
        "privacy": privacy,
        "max_rounds": 2,
        "clients_per_round": 1.0,
        "gradient_clip_val": None,
        "test_at_end": False,
        "precision": "64-true",
    }
    data = toy_data(
        train=toy_rows(ROWS, 5), num_clients=1, batch_size=ROWS, partitioner=IIDPartitioner()
    )
    trainer = toy_trainer(root, **given | settings)
    trainer.fit(module, data, settings.get("ckpt_path"))
    return trainer


def test_two_rounds_are_those_of_a_loop_over_single_rows(
    student: Path, llama: Path, tmp_path: Path
) -> None:
    """All rows in each step and next to no noise: the gradient of a row's CE + λ·KD is cut as a whole."""
    own = llama_classifier(llama)
    reader = copy.deepcopy(own.model).double().eval()
    module = dp(student, FrozenTeacher(own))
    model = copy.deepcopy(module.backbone.model).double().eval()
    trainer = run(module, tmp_path, DPSGD(BOUND, noise_multiplier=1e-13))

    weights, rows = trained(model), toy_rows(ROWS, 5)
    cut = apart = 0
    for _ in range(2):
        total = {name: torch.zeros_like(p) for name, p in weights.items()}
        for i in range(ROWS):
            tokens = module.tokenizer([rows[i]["text"]], return_tensors="pt")
            batch = {**tokens, "labels": torch.tensor([rows[i]["label"]])}
            target = read_by(own, reader, {"index": torch.tensor([i])}, rows)
            predicted = logits(model, batch)
            soft = F.kl_div(
                (predicted / T).log_softmax(-1), (target / T).softmax(-1), reduction="sum"
            )
            terms = F.cross_entropy(predicted, batch["labels"]), LAMBDA * T**2 * soft
            by_term = [
                torch.autograd.grad(term, list(weights.values()), retain_graph=True)
                for term in terms
            ]
            norms = [math.sqrt(sum(float(g.square().sum()) for g in own)) for own in by_term]
            gradient = [a + b for a, b in zip(*by_term, strict=True)]
            norm = math.sqrt(sum(float(g.square().sum()) for g in gradient))
            cut += norm > BOUND
            # where it would be another gradient if each term were cut by itself
            apart += max(norms) > BOUND
            for name, g in zip(weights, gradient, strict=True):
                total[name] += g * min(1.0, BOUND / norm)
        with torch.no_grad():
            for name, parameter in weights.items():
                parameter -= RATE * total[name] / ROWS
    assert 0 < cut < 2 * ROWS
    assert apart > 0
    found, expected = trainer.federation.broadcast.tensors, under_names_of_payloads(weights)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6)


def test_it_is_distillation_with_privacy(student: Path, llama: Path, tmp_path: Path) -> None:
    privacy = DPSGD(noise_multiplier=0.8)
    one = run(dp(student, llama_teacher(llama)), tmp_path / "dp", privacy)
    other = run(dp(student, llama_teacher(llama), Distillation), tmp_path / "plain", privacy)
    assert one.federation.broadcast == other.federation.broadcast


def test_epsilon_is_logged_and_in_the_summary_and_both_factors_move(
    student: Path, tmp_path: Path
) -> None:
    """The teacher is the global model, whose predictions are kept."""
    module = DPDistillation(toy_backbone(student), optimizer=plain_sgd)
    start = {name: p.detach().clone() for name, p in module.backbone.trainable().items()}
    settings = {"max_rounds": 3, "precision": "32-true", "local_steps": 4}
    trainer = run(module, tmp_path, DPSGD(target_epsilon=8.0), **settings)
    history = trainer.federation.history
    spent = [row["privacy/epsilon/max"] for row in history]
    assert 0 < spent[0] < spent[1] < spent[2] <= 8.0
    assert spent[2] > 7.5
    summary = json.loads((tmp_path / "summary.json").read_text())["privacy"]
    assert summary["epsilon"] == {"client-0": pytest.approx(spent[2])}
    assert (summary["delta"], summary["max_grad_norm"]) == (1e-5, 1.0)
    moved = trainer.federation.broadcast.tensors
    for letter in ("lora_A", "lora_B"):
        names = [name for name in start if letter in name]
        assert names
        assert all(float((moved[n] != start[n]).float().mean()) > 0.9 for n in names)


def test_a_teachers_pass_has_no_part_in_the_gradient(student: Path, llama: Path) -> None:
    own = llama_classifier(llama)
    module = dp(student, FrozenTeacher(own))
    data = toy_data()
    data.setup()
    rows = data.clients[0].rows
    module.teacher.read(data, rows)
    batch = next(iter(data.dataloader(rows, module.tokenizer, seed=0)))
    predicted: Tensor = module.taught(batch).logits
    assert not predicted.requires_grad
    sum(module.loss_terms(module(batch), module.taught(batch), batch)).backward()
    assert all(parameter.grad is None for parameter in own.parameters())


def test_a_resumed_run_goes_on_bit_for_bit_and_goes_on_counting(
    student: Path, llama: Path, tmp_path: Path
) -> None:
    def fit(name: str, rounds: int, ckpt_path: str | None = None) -> Any:
        privacy = DPSGD(noise_multiplier=1.0)
        trainer = toy_trainer(
            tmp_path / name,
            max_rounds=rounds,
            local_steps=2,
            privacy=privacy,
            gradient_clip_val=None,
            test_at_end=False,
        )
        trainer.fit(dp(student, llama_teacher(llama)), toy_data(), ckpt_path)
        return trainer.federation

    whole = fit("whole", 2)
    fit("parts", 1)
    parts = fit("parts", 2, "last")
    assert parts.broadcast == whole.broadcast
    assert without_times(parts.history) == without_times(whole.history)


def test_without_privacy_it_does_not_train(student: Path, tmp_path: Path) -> None:
    module = dp(student, AdapterTeacher())
    with pytest.raises(ValueError, match=r"`trainer.privacy` .*DPSGD with DPDistillation, .* null"):
        run(module, tmp_path, None)
    trainer = toy_trainer(tmp_path / "untrained")
    trainer.validate(module, toy_data())
    stock = lightning.Trainer(max_steps=1, accelerator="cpu", logger=False, barebones=True)
    with pytest.raises(ConfigurationError, match=r"`trainer` .* FederatedTrainer with `privacy`"):
        stock.fit(module, datamodule=toy_data())
