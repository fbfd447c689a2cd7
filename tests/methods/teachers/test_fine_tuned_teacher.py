"""A teacher that learns the public set: beside a plain loop, always the same, and what it refuses."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from lit_fed import DDG, Distillation
from lit_fed.backbones import SequenceClassifier
from lit_fed.configuration_error import ConfigurationError
from lit_fed.federation import ShardedClients
from lit_fed.methods.teachers import FineTunedTeacher
from tests.federation.toy import toy_backbone, toy_data, toy_rows, toy_trainer
from tests.methods.toy_methods import save_sober_model, save_toy_lm

EPOCHS, SIZE, LR = 2, 6, 1e-2


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("student") / "model")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("llama") / "model")


def llama_backbone(folder: Path) -> SequenceClassifier:
    torch.manual_seed(1)
    return SequenceClassifier(str(folder), num_labels=2, peft=None)


def taught(student: Path, llama: Path, **settings: Any) -> Distillation:
    given = {"epochs": EPOCHS, "batch_size": SIZE, "lr": LR}
    teacher = FineTunedTeacher(llama_backbone(llama), **given | settings)
    module = Distillation(toy_backbone(student), teacher=teacher)
    module.datamodule = toy_data()
    module.datamodule.setup()
    return module


def weights(module: Any) -> dict[str, Any]:
    return {n: p.detach().clone() for n, p in module.teacher.backbone.model.named_parameters()}


def test_it_learns_the_public_rows_as_a_plain_loop_does(student: Path, llama: Path) -> None:
    """In one batch of all 24 rows, whose order is no matter, by AdamW with a rate that falls to 0."""
    module = taught(student, llama, batch_size=24, epochs=5)
    own = module.teacher.backbone
    model = copy.deepcopy(own.model)
    rows = toy_rows(24, 3)
    tokens = own.tokenizer(rows["text"][:], padding=True, return_tensors="pt")
    labels = torch.tensor(rows["label"][:])
    inputs = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    optimizer = torch.optim.AdamW(model.requires_grad_().parameters(), lr=LR, weight_decay=0.01)
    for step in range(5):
        optimizer.param_groups[0]["lr"] = LR * (1 - step * (1 - 1 / 5) / 5)
        optimizer.zero_grad()
        F.cross_entropy(model(**inputs).logits, labels).backward()
        optimizer.step()
    module.teacher.setup(module)
    for name, value in model.named_parameters():
        torch.testing.assert_close(weights(module)[name], value.detach(), rtol=0, atol=2e-5)
    assert not any(p.requires_grad or p.grad is not None for p in own.parameters())
    assert not own.training


def test_it_is_the_same_in_every_fit_and_leaves_chance_alone(student: Path, llama: Path) -> None:
    module, other = taught(student, llama), taught(student, llama)
    before = weights(module)
    state = torch.get_rng_state()
    module.teacher.setup(module)
    assert torch.equal(torch.get_rng_state(), state)
    once = weights(module)
    assert any(not torch.equal(once[name], before[name]) for name in once)
    module.teacher.setup(module)
    torch.rand(3)
    other.teacher.setup(other)
    for again in (weights(module), weights(other)):
        assert all(torch.equal(again[name], once[name]) for name in once)
    reseeded = taught(student, llama, seed=1)
    reseeded.teacher.setup(reseeded)
    assert any(not torch.equal(weights(reseeded)[name], once[name]) for name in once)


def test_a_resumed_federation_has_the_same_teacher(
    student: Path, llama: Path, tmp_path: Path
) -> None:
    def fit(name: str, rounds: int, ckpt_path: str | None = None) -> Any:
        trainer = toy_trainer(tmp_path / name, max_rounds=rounds, local_steps=1, test_at_end=False)
        trainer.fit(taught(student, llama), toy_data(), ckpt_path)
        return trainer.federation

    whole = fit("whole", 2)
    fit("parts", 1)
    assert fit("parts", 2, "last").broadcast == whole.broadcast


def test_a_head_without_names_has_the_students_labels(student: Path, llama: Path) -> None:
    backbone = toy_backbone(student)
    backbone.name_labels(["bad", "good"])
    own = llama_backbone(llama)
    FineTunedTeacher(own).attach(backbone)
    assert own.label_names == ["bad", "good"]


def test_ddg_has_it_learn_too(student: Path, llama: Path, tmp_path: Path) -> None:
    own = llama_backbone(llama)
    before = own.model.score.weight.detach().clone()
    module = DDG(toy_backbone(student), teacher=FineTunedTeacher(own, epochs=1), lambda_align=0.0)
    toy_trainer(tmp_path, max_rounds=1, local_steps=1, test_at_end=False).fit(module, toy_data())
    assert not torch.equal(own.model.score.weight, before)


def test_what_cannot_be_done_is_named(student: Path, llama: Path, tmp_path: Path) -> None:
    for settings, message in (
        ({"epochs": 0}, r"`model.teacher.epochs` .* at least 1, but got 0"),
        ({"lr": 0.0}, r"`model.teacher.lr` .* above 0, but got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            FineTunedTeacher(llama_backbone(llama), **settings)
    frozen = llama_backbone(llama).requires_grad_(False)
    with pytest.raises(ValueError, match=r"something that trains, but has nothing"):
        FineTunedTeacher(frozen)
    with pytest.raises(ConfigurationError, match=r"`data.public` .* FineTunedTeacher .* got null"):
        toy_trainer(tmp_path).fit(taught(student, llama), toy_data(public=None))
    unlabelled = toy_data(public=toy_rows(24, 3).remove_columns("label"), public_answered=False)
    with pytest.raises(ConfigurationError, match=r"`data.public` .* but got rows without a label"):
        toy_trainer(tmp_path).fit(taught(student, llama), unlabelled)
    with pytest.raises(ValueError, match=r"to be a FrozenTeacher where a model is split"):
        toy_trainer(tmp_path, execution=ShardedClients()).fit(taught(student, llama), toy_data())
