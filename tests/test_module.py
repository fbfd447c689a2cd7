"""What a module says of its backbones, and what follows from them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule
from lightning.pytorch import Trainer
from torch import Tensor, nn

from lit_fed import FedAvg
from lit_fed.backbones import Backbone
from lit_fed.client import Client
from lit_fed.federation import SequentialClients, VectorizedClients
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.federation.execution import ClientExecution
from lit_fed.losses import cross_entropy
from tests.federation.execution.launched import python_m
from tests.federation.protocol_methods import Answers
from tests.federation.toy import save_toy_model, toy_backbone, toy_data, toy_trainer
from tests.methods.toy_methods import save_toy_lm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy") / "model", width=16)


class Pair(nn.Module):
    """A second backbone with something of the method's own beside it."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.inner = backbone
        self.scale = nn.Linear(2, 2)
        self.register_buffer("count", torch.zeros(()))


class WithTwo(FedAvg):
    def __init__(self, first: Backbone, second: Backbone) -> None:
        super().__init__(first)
        self.pair = Pair(second)
        self.head = nn.Linear(3, 1)


def client(index: int) -> Client:
    given: dict[str, Any] = {"num_samples": 1, "round": 0, "rounds": 0, "steps": 0}
    if "rows" in Client.__dataclass_fields__:
        given["rows"] = None
    return Client(f"client-{index}", index, **given)


def test_backbones_are_named_once(model: Path) -> None:
    first, second = toy_backbone(model), toy_backbone(model)
    assert dict(FedAvg(first).backbones) == {"backbone": first}
    assert dict(WithTwo(first, second).backbones) == {"backbone": first, "pair.inner": second}
    several = Answers([first, second])
    for index in (0, 1):
        several.act_as(client(index))
        assert dict(several.backbones) == {"models.0": first, "models.1": second}


def test_a_second_backbone_is_neither_private_nor_reset_whole(model: Path) -> None:
    module = WithTwo(toy_backbone(model), toy_backbone(model))
    own = ["head.bias", "head.weight", "pair.count", "pair.scale.bias", "pair.scale.weight"]
    assert sorted(module.private_state().tensors) == own
    live = {id(tensor) for tensor in ResidentModule(module)._live}
    for backbone in module.backbones.values():
        assert not live & {id(buffer) for buffer in backbone.buffers()}
        assert not live & {id(p) for p in backbone.parameters() if not p.requires_grad}
    assert {id(module.pair.count), id(module.head.weight)} <= live


def test_a_private_state_comes_back(model: Path) -> None:
    module = WithTwo(toy_backbone(model), toy_backbone(model))
    kept = module.private_state()
    with torch.no_grad():
        module.pair.count += 1
        module.head.weight += 1
    assert module.private_state() != kept
    module.load_private_state(kept)
    assert module.private_state() == kept
    assert not FedAvg(toy_backbone(model)).private_state()


class Around(LightningModule):
    """Somebody's module with a method in it, for a stock Trainer."""

    def __init__(self, inner: FedAvg) -> None:
        super().__init__()
        self.inner = inner

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        if self.trainer.lightning_module is self:
            self.log("outer/twice", 2.0)
        return self.inner.training_step(batch, batch_idx)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.inner.validation_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.inner.parameters(), lr=0.1)


@pytest.mark.parametrize("deep", [False, True])
def test_a_method_inside_another_module_logs_in_a_stock_trainer(
    model: Path, tmp_path: Path, deep: bool
) -> None:
    inner, data = FedAvg(toy_backbone(model)), toy_data()
    data.setup()
    rows, validation = data.clients[1].rows, data.validation
    assert validation is not None
    outer: LightningModule = Around(inner)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    if deep:
        outer = Around(outer)  # type: ignore[arg-type]  # a module in a module in a module
    batches = [data.dataloader(part, inner.tokenizer) for part in (rows, validation)]
    trainer.fit(outer, *batches)
    with torch.no_grad():
        inner.eval()
        predictions = [inner(batch) for batch in batches[1]]
        losses = [
            (float(cross_entropy(p.logits, p.targets, p.mask)), int(p.mask.sum()))
            for p in predictions
        ]
    mean = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(mean, rel=1e-5)
    assert {"train/loss", "outer/twice"} <= trainer.callback_metrics.keys()


@pytest.mark.slow
def test_two_processes_of_a_stock_trainer_report_what_one_does(tmp_path: Path) -> None:
    """By the tokens that each has seen, of which they have unequally many."""
    save_toy_lm(tmp_path / "lm")
    found = []
    for devices in (1, 2):
        words = (str(devices), str(tmp_path / "lm"), str(tmp_path))
        run = python_m("tests.validated_by_stock_trainer", *words)
        assert run.returncode == 0, run.stderr
        files = [tmp_path / f"{devices}.{rank}.json" for rank in range(devices)]
        found += [json.loads(path.read_text()) for path in files]
    one, *two = found
    assert one.keys() == {"val/loss", "val/accuracy"}
    assert two == [pytest.approx(one, rel=1e-6)] * 2


class Part(LightningModule):
    """Somebody's LightningModule as a part of a method."""

    def forward(self, value: float) -> float:
        self.log("part/value", value, batch_size=2)
        self.log_dict({"part/square": value * value})
        return value


class WithParts(FedAvg):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone, warmup_steps=0)
        self.inner = FedAvg(self.backbone)
        self.part = Part()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.part(3.0)
        assert self.inner.own_step == self.own_step
        assert self.inner.data is self.data
        return self.inner.training_step(batch, batch_idx)

    def validation_step(
        self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.inner.validation_step(batch, batch_idx)


@pytest.mark.parametrize("execution", [SequentialClients(), VectorizedClients(2)])
def test_modules_inside_a_method_log_in_a_federation(
    model: Path, tmp_path: Path, execution: ClientExecution
) -> None:
    module = WithParts(toy_backbone(model))
    trainer = toy_trainer(tmp_path, max_rounds=2, execution=execution)
    trainer.fit(module, toy_data())
    row = trainer.federation.history[1]
    assert row["clients/part/value/mean"] == 3
    assert row["clients/part/square/mean"] == 9
    assert {"clients/train/loss/mean", "val/loss", "val/accuracy"} <= row.keys()
    assert "log" not in vars(module.inner) | vars(module.part)


class Logging(FedAvg):
    """Logs in all the ways that Lightning knows."""

    def test_step(
        self, batch: dict[str, torch.Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        right = (self(batch).logits.argmax(-1) == batch["labels"]).double()
        positive = batch["labels"] == 1
        count, length = int(positive.sum()), float(batch["input_ids"].shape[1])
        recall = right[positive].sum() / max(count, 1)
        self.log("test/right", right.mean())
        self.log("test/right_again", right.mean(), batch_size=len(right))
        self.log("test/recall", recall, batch_size=count)
        self.log("test/rows", float(len(right)), reduce_fx="sum")
        self.log("test/longest", length, reduce_fx="max")
        self.log("test/shortest", length, reduce_fx=torch.min)


@pytest.mark.parametrize("rows", [39, 16, 1])
def test_values_are_reduced_as_in_lightning(rows: int, toy_model: Path, tmp_path: Path) -> None:
    module = Logging(toy_backbone(toy_model))
    stock = Trainer(logger=False, enable_progress_bar=False, accelerator="cpu")
    (expected,) = stock.test(module, toy_data(eval_batch_size=rows, bucketing=False), verbose=False)
    (found,) = toy_trainer(tmp_path).test(module, toy_data(eval_batch_size=rows, bucketing=False))
    assert found == pytest.approx(expected)
    assert found["test/rows"] == 40
    assert found["test/right"] == pytest.approx(found["test/right_again"])


def test_other_reductions_are_refused_as_in_lightning(toy_model: Path, tmp_path: Path) -> None:
    class Logs(FedAvg):
        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("test/median", 1.0, reduce_fx=torch.median)

    with pytest.raises(
        ValueError, match="`reduce_fx` of log is expected to be mean, sum, max or min"
    ):
        toy_trainer(tmp_path).test(Logs(toy_backbone(toy_model)), toy_data())
