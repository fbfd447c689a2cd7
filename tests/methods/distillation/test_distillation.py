"""Distillation beside a plain loop, and teachers that read rows by a tokenizer of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor, nn

from lit_fed import DDG, Distillation, FedAvg, FederatedModule
from lit_fed.attachment import Attachment
from lit_fed.backbones import Prediction
from lit_fed.federation import ShardedClients
from lit_fed.methods.teachers import AdapterTeacher, FrozenTeacher, fit_projector
from tests.federation.execution.agreement import assert_same_federation, sgd
from tests.federation.toy import (
    save_toy_model,
    toy_backbone,
    toy_data,
    toy_rows,
    toy_trainer,
    without_times,
)
from tests.methods.distillation.toy_teachers import (
    WHOLE,
    llama_classifier,
    llama_teacher,
    read_by,
)
from tests.methods.plain_loop import (
    local_sgd,
    logits,
    recorded,
    trained,
    under_names_of_payloads,
)
from tests.methods.toy_methods import continue_text, lm_data, save_sober_model, save_toy_lm

LAMBDA, T, RATE = 0.7, 2.5, 0.2
Values = dict[str, Tensor]


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("student") / "model")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("llama") / "model")


def plain_sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=RATE)


def taught_loss(predicted: Tensor, target: Tensor, labels: Tensor) -> Tensor:
    """CE + λ·T²·KL(softmax(z_t/T) ‖ softmax(z_s/T)), by torch's own functions."""
    kl = F.kl_div((predicted / T).log_softmax(-1), (target / T).softmax(-1), reduction="batchmean")
    return F.cross_entropy(predicted, labels) + LAMBDA * T**2 * kl


def method(folder: Path, teacher: Any = None, **settings: Any) -> Distillation:
    given = {"optimizer": plain_sgd, "lambda_distill": LAMBDA, "temperature": T}
    return Distillation(toy_backbone(folder), teacher=teacher, **given | settings)


@pytest.mark.parametrize("kind", ["llama", "global"])
def test_rounds_are_those_of_a_plain_loop(
    kind: str, student: Path, llama: Path, tmp_path: Path
) -> None:
    """The teacher is a Llama of another width that reads the rows' texts by its own words, or the global model."""
    own = llama_classifier(llama)
    reader = copy.deepcopy(own.model).double().eval()
    module = method(student, FrozenTeacher(own) if kind == "llama" else None)
    record, trainer, initial = recorded(module, tmp_path, clients_per_round=3, max_rounds=2)
    theta = {name: p.detach().clone() for name, p in trained(initial).items()}
    for number in range(2):
        begun = copy.deepcopy(initial)
        for name, parameter in trained(begun).items():
            parameter.data = theta[name].clone()

        def loss(model: nn.Module, batch: dict[str, Tensor], begun: nn.Module = begun) -> Tensor:
            by_itself = kind == "llama"
            target = read_by(own, reader, batch, WHOLE) if by_itself else logits(begun, batch)
            return taught_loss(logits(model, batch), target.detach(), batch["labels"])

        sent = {
            client: local_sgd(
                initial, theta, batches, lambda step: RATE, lambda n, value, grad: grad, loss
            )[0]
            for (at, client), batches in record.batches.items()
            if at == number
        }
        total = sum(record.sizes[client] for client in sent)
        theta = {
            name: sum(record.sizes[c] / total * values[name] for c, values in sent.items())
            for name in theta
        }
    found = trainer.federation.broadcast.tensors
    expected = under_names_of_payloads(theta)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10)
    assert trainer.federation.history[-1]["clients/train/distill/min"] > 0


def test_without_a_weight_it_is_federated_averaging(student: Path, tmp_path: Path) -> None:
    def trained_by(module: FederatedModule, name: str) -> Any:
        trainer = toy_trainer(tmp_path / name, max_rounds=2)
        trainer.fit(module, toy_data())
        return trainer.federation

    plain = trained_by(FedAvg(toy_backbone(student, 0.1), optimizer=plain_sgd), "plain")
    backbone = toy_backbone(student, 0.1)
    off = trained_by(Distillation(backbone, optimizer=plain_sgd, lambda_distill=0.0), "off")
    assert off.broadcast == plain.broadcast
    assert without_times(off.history) == without_times(plain.history)


@pytest.mark.parametrize("kind", ["llama", "global"])
def test_vectorized_clients_give_what_single_ones_do(
    kind: str, llama: Path, tmp_path: Path
) -> None:
    folder = save_toy_model(tmp_path / "model", width=16)

    def module() -> FederatedModule:
        teacher = llama_teacher(llama) if kind == "llama" else None
        return Distillation(toy_backbone(folder, 0.2), teacher=teacher, optimizer=sgd)

    data = partial(toy_data, num_clients=2, batch_size=5)
    assert_same_federation(module, data, tmp_path, local_steps=3)


def test_a_resumed_run_is_a_whole_one_bit_for_bit(
    student: Path, llama: Path, tmp_path: Path
) -> None:
    def fit(name: str, rounds: int, ckpt_path: str | None = None) -> Any:
        trainer = toy_trainer(tmp_path / name, max_rounds=rounds, local_steps=2)
        trainer.fit(method(student, llama_teacher(llama)), toy_data(), ckpt_path)
        return trainer.federation

    whole = fit("whole", 3)
    fit("parts", 2)
    parts = fit("parts", 3, "last")
    assert parts.broadcast == whole.broadcast
    assert without_times(parts.history) == without_times(whole.history)


class Stock(Distillation):
    """Keeps the loss of each step, and the batch."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        self.kept = [*getattr(self, "kept", []), (dict(batch), loss.detach())]
        return loss


def test_a_stock_trainer_trains_with_a_teacher_that_reads_by_itself(
    student: Path, llama: Path, tmp_path: Path
) -> None:
    own = llama_classifier(llama)
    reader, rows = copy.deepcopy(own.model).eval(), toy_rows(160, 0)
    module = Stock(
        toy_backbone(student),
        teacher=FrozenTeacher(own),
        optimizer=plain_sgd,
        lambda_distill=LAMBDA,
        temperature=T,
    )
    first = copy.deepcopy(module.backbone.model).eval()
    lightning.Trainer(
        max_steps=3,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    ).fit(module, datamodule=toy_data())
    assert len(module.kept) == 3
    batch, loss = module.kept[0]
    expected = taught_loss(logits(first, batch), read_by(own, reader, batch, rows), batch["labels"])
    torch.testing.assert_close(loss, expected.detach())
    assert not any(parameter.requires_grad for parameter in own.parameters())


class OtherTexts(Attachment):
    """Every text of a client becomes another one."""

    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, Dataset] = {}

    def rows(self, client: Any, rows: Dataset) -> Dataset:
        if rows._fingerprint not in self.given:
            self.given[rows._fingerprint] = rows.map(lambda row: {"text": "kind and warm"})
        return self.given[rows._fingerprint]


class Tampered(Attachment):
    """The teacher of one client is sure of the second class."""

    def __init__(self, clients: list[str]) -> None:
        super().__init__(clients)
        self.seen: list[Tensor] = []

    def teacher_prediction(self, client: Any, batch: Any, prediction: Prediction) -> Prediction:
        self.seen.append(prediction.logits.clone())
        prediction.logits[:] = torch.tensor([-9.0, 9.0])
        return prediction


def test_attachments_act_on_what_it_reads_and_on_what_it_predicts(
    student: Path, llama: Path, tmp_path: Path
) -> None:
    own = llama_classifier(llama)
    tampered = Tampered(["client-1"])

    def ran(name: str, attachments: list[Attachment]) -> Any:
        trainer = toy_trainer(
            tmp_path / name,
            max_rounds=1,
            local_steps=2,
            clients_per_round=1.0,
            test_at_end=False,
            attachments=attachments,
        )
        trainer.fit(method(student, FrozenTeacher(own)), toy_data())
        return trainer.federation

    honest, misled = ran("honest", [OtherTexts()]), ran("misled", [OtherTexts(), tampered])
    tokens = own.tokenizer(["kind and warm"], return_tensors="pt")
    with torch.no_grad():
        expected = own.model(input_ids=tokens["input_ids"]).logits
    assert len(tampered.seen) == 2
    for seen in tampered.seen:
        torch.testing.assert_close(seen, expected.expand_as(seen))
    assert misled.broadcast != honest.broadcast


def test_its_labels_are_found_by_their_names(student: Path, llama: Path) -> None:
    data = toy_data()
    data.setup()
    backbone = toy_backbone(student)
    backbone.model.config.id2label = {0: "bad", 1: "good"}
    own = llama_classifier(llama)
    own.model.config.id2label = {0: "good", 1: "bad"}
    teacher = FrozenTeacher(own)
    teacher.attach(backbone)
    rows = data.clients[0].rows
    batch = next(iter(data.dataloader(rows, backbone.tokenizer, seed=1)))
    with pytest.raises(ValueError, match=r"another tokenizer than the student, .* no rows to read"):
        teacher(batch)
    teacher.read(data, rows.shuffle(seed=3))  # in whatever order they are
    expected = read_by(own, own.model, batch, toy_rows(160, 0))
    for _ in range(2):  # the second time from the cache
        torch.testing.assert_close(teacher(batch).logits, expected[:, [1, 0]])
    without = {name: value for name, value in batch.items() if name != "index"}
    with pytest.raises(
        ValueError, match=r"batches with their ids `index`, but has a batch without"
    ):
        teacher(without)
    with pytest.raises(RuntimeError, match=r"expected to have read all rows .* not row 999"):
        teacher({**batch, "index": batch["index"] * 0 + 999})


def test_ddg_learns_from_it_on_public_rows_too(student: Path, llama: Path, tmp_path: Path) -> None:
    data = toy_data()
    data.setup()
    own, backbone = llama_classifier(llama), toy_backbone(student)
    rows = data.clients[0].rows
    batches = [list(data.dataloader(rows, one.tokenizer)) for one in (backbone, own)]
    projector = fit_projector(own, backbone, batches[0], teacher_batches=batches[1])
    assert (projector.in_features, projector.out_features) == (16, 32)
    module = DDG(backbone, teacher=FrozenTeacher(own, projector), optimizer=plain_sgd)
    trainer = toy_trainer(tmp_path, max_rounds=2, local_steps=2, test_at_end=False)
    trainer.fit(module, data)
    history = trainer.federation.history[1]  # in the first round there are no aggregate predictions
    assert history["clients/train/align/mean"] > 0
    assert history["clients/train/aggregate/mean"] > 0


def test_a_language_model_learns_from_another_one(llama: Path, tmp_path: Path) -> None:
    torch.manual_seed(3)
    module = continue_text(Distillation, llama)
    frozen = continue_text(FedAvg, llama).backbone
    with torch.no_grad():
        for parameter in frozen.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    module = continue_text(Distillation, llama, teacher=FrozenTeacher(frozen))
    trainer = toy_trainer(tmp_path, max_rounds=1, clients_per_round=2, local_steps=2)
    trainer.fit(module, lm_data())
    assert trainer.federation.history[0]["clients/train/distill/mean"] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lambda_distill": -1.0}, r"`model.lambda_distill` .* at least 0, but got -1.0"),
        ({"temperature": 0.0}, r"`model.temperature` .* above 0, but got 0.0"),
        ({"teacher": FrozenTeacher}, r"`model.teacher` is expected to be an? .*Teacher"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str, student: Path) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Distillation(toy_backbone(student), **settings)


def test_processes_that_share_a_batch_need_a_teacher_that_keeps_nothing(
    student: Path, tmp_path: Path
) -> None:
    trainer = toy_trainer(tmp_path, execution=ShardedClients())
    with pytest.raises(ValueError, match=r"`model.teacher.cache_mb` is expected to be 0"):
        trainer.fit(method(student), toy_data())
    made: Callable[[], AdapterTeacher] = partial(AdapterTeacher, cache_mb=0.0)
    method(student, made()).check_split()
