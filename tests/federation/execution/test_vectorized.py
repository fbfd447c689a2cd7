"""Running clients together: settings, failures, refusals, and what is left behind."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from lightning.pytorch import Callback
from peft import LoraConfig
from torch import Tensor
from transformers.models.bert.modeling_bert import BertEmbeddings

from lit_fed import MSI, FedAvg, Payload
from lit_fed.backbones import SequenceClassifier
from lit_fed.federation import SequentialClients, VectorizedClients
from lit_fed.perturbations import WeightNoise
from tests.federation.execution.agreement import (
    adamw,
    assert_close,
    assert_same_federation,
    largest_difference,
    run,
    sgd,
)
from tests.federation.protocol_methods import SoftPredictions
from tests.federation.toy import save_toy_model, toy_backbone, toy_data, toy_rows, toy_trainer
from tests.slow import slow_but


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy") / "model", width=16)


def data(**settings: Any) -> Any:
    """Of 4 clients with different numbers of rows."""
    rows = {"train": toy_rows(60, 0), "validation": toy_rows(8, 1), "public": None, "test": None}
    return toy_data(**rows | {"batch_size": 5} | settings)


def fedavg(model: Path, method: type[FedAvg] = FedAvg, **settings: Any) -> FedAvg:
    given: dict[str, Any] = {"optimizer": adamw, "warmup_steps": 0}
    return method(toy_backbone(model, dropout=0.1), **given | settings)


SETTINGS: dict[str, dict[str, Any]] = {
    "accumulated": {"accumulate_grad_batches": 2, "local_epochs": 2},
    "steps": {"local_steps": 3, "accumulate_grad_batches": 2},
    "clipped tightly": {"gradient_clip_val": 0.01},
    "clipped by value": {"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value"},
    "not clipped": {"gradient_clip_val": None},
    "kept moments": {"keep_optimizer_state": True, "clients_per_round": 3, "max_rounds": 3},
    "validated": {"validate_clients": True},
}


@pytest.mark.parametrize(
    "name", slow_but("accumulated", "clipped by value", "kept moments", "validated", of=SETTINGS)
)
def test_settings(name: str, model: Path, tmp_path: Path) -> None:
    settings = {"max_rounds": 1} | SETTINGS[name]
    assert_same_federation(lambda: fedavg(model, warmup_steps=4), data, tmp_path, **settings)


def test_rows_at_the_models_limit_are_not_padded_beyond_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 32 positions, which is the size of a table as well: two clients' rows fill them, one's are short."""
    word, label = "film day book", [0, 1] * 3
    tables = {
        name: Dataset.from_dict({"text": [f"good {' '.join([word] * times)}"] * 6, "label": label})
        for name, times in (("a", 20), ("b", 20), ("c", 2))
    }
    seen: list[tuple[int, ...]] = []
    embed = BertEmbeddings.forward

    def forward(self: Any, input_ids: Tensor, **given: Any) -> Any:
        seen.append(tuple(input_ids.shape))
        return embed(self, input_ids, **given)

    monkeypatch.setattr(BertEmbeddings, "forward", forward)

    def three() -> Any:
        given = {"train": tables, "partitioner": None, "num_clients": None, "max_length": None}
        return data(**given, batch_size=2)

    assert_same_federation(lambda: fedavg(model), three, tmp_path, 3, max_rounds=1)
    assert max(length for _, length in seen) == 32
    # what is as long is computed together
    assert (4, 32) in seen


@pytest.mark.parametrize("at_once", slow_but(2, of=[1, 2, 9]))
def test_any_number_at_once(at_once: int, model: Path, tmp_path: Path) -> None:
    assert_same_federation(lambda: fedavg(model), data, tmp_path, at_once, max_rounds=1)


def test_equal_clients_step_together(model: Path, tmp_path: Path) -> None:
    """Of the same number of steps, with moments that last."""
    settings = {"local_steps": 2, "keep_optimizer_state": True, "gradient_clip_val": 0.05}
    for number, optimizer in enumerate((sgd, adamw)):
        assert_same_federation(
            lambda optimizer=optimizer: fedavg(model, optimizer=optimizer, warmup_steps=5),
            data,
            tmp_path / str(number),
            at_once=4,
            **settings,
        )


def soft_predictions(model: Path) -> SoftPredictions:
    """Whose passes within the upload are computed while the precision's default dtype holds."""
    return SoftPredictions(toy_backbone(model), optimizer=sgd, warmup_steps=0)


def public_data() -> Any:
    return data(public=toy_rows(6, 3))


def test_passes_within_the_upload_take_the_precision(model: Path, tmp_path: Path) -> None:
    assert_same_federation(
        lambda: soft_predictions(model), public_data, tmp_path, at_once=4, max_rounds=1
    )
    assert torch.get_default_dtype() == torch.float32


def test_half_precision_runs(model: Path, tmp_path: Path) -> None:
    """What trains is float32; the rounding of activations alone moves it by more than a test could tell."""
    settings = {"precision": "bf16-true", "max_rounds": 1}
    module, execution = soft_predictions(model), VectorizedClients(4)
    ours = run(module, public_data(), tmp_path, execution, **settings)
    assert len(ours.clients) == 4
    assert {p.dtype for p in module.backbone.trainable().values()} == {torch.float32}
    assert torch.bfloat16 in {p.dtype for p in module.backbone.parameters()}
    assert torch.get_default_dtype() == torch.float32


def test_single_precision_rounds_as_a_sequential_run_does(model: Path, tmp_path: Path) -> None:
    """Measured by the same run in double precision, neither order of summation is the better one."""

    def broadcast(name: str, execution: Any, precision: str) -> Payload:
        settings = {"precision": precision, "max_rounds": 1}
        module = fedavg(model, optimizer=sgd)
        return run(module, data(), tmp_path / name, execution, **settings).broadcast

    exact = broadcast("exact", None, "64-true")
    rounded = largest_difference(broadcast("sequential", None, "32-true"), exact)
    assert 0 < rounded < 1e-4
    ours = broadcast("vectorized", VectorizedClients(3), "32-true")
    assert largest_difference(ours, exact) < 4 * rounded


# ---------------------------------------------------------------- clients that fail


class RaisesBackwards(torch.autograd.Function):
    """A loss of which there is no gradient, which shows in the backward pass alone."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor) -> Tensor:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise ArithmeticError("no way back")


class RaisesInStep(torch.optim.AdamW):
    def step(self, closure: Any = None) -> Any:
        raise ArithmeticError("no step")


class Fails(FedAvg):
    """Client 1 fails at its second batch, in one of several ways."""

    way = ""

    def configure_optimizers(self) -> Any:
        if self.client is not None and self.client.index == 1 and self.way == "step raises":
            return RaisesInStep([p for p in self.parameters() if p.requires_grad])
        return super().configure_optimizers()

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        fails = self.client is not None and self.client.index == 1 and batch_idx == 1
        if fails and self.way == "raises":
            raise RuntimeError("no more memory")
        if fails and self.way == "unknown token":
            batch = batch | {"input_ids": batch["input_ids"] + 10**6}
        loss = super().training_step(batch, batch_idx)
        if fails and self.way == "no gradient":
            return loss.detach()
        if fails and self.way == "backward raises":
            return RaisesBackwards.apply(loss)
        return loss * float("nan") if fails and self.way == "nan loss" else loss


class NotANumber(Fails):
    """Client 1 turns into NaN all through the model."""

    def start_stage(self, stage: str) -> None:
        if self.client is not None and self.client.index == 1:
            with torch.no_grad():
                for parameter in self.backbone.trainable().values():
                    parameter.fill_(float("nan"))


WAYS = (
    "raises",
    "unknown token",
    "no gradient",
    "backward raises",
    "step raises",
    "nan loss",
    "nan",
)


@pytest.mark.parametrize(
    "way", slow_but("raises", "backward raises", "step raises", "nan", of=WAYS)
)
def test_a_client_fails_alone(way: str, model: Path, tmp_path: Path) -> None:
    kind = NotANumber if way == "nan" else type("Failing", (Fails,), {"way": way})
    with pytest.warns(UserWarning, match="'client-1' is left out"):
        ours = assert_same_federation(
            lambda: fedavg(model, kind), data, tmp_path, at_once=4, max_rounds=1
        )
    assert ours.failures == {"client-1": 1}
    assert len(ours.clients) == 3


def test_clients_that_do_not_fit_together_train_one_after_the_other(
    model: Path, tmp_path: Path
) -> None:
    def scarce(module: Any, args: Any, given: dict[str, Any]) -> None:
        if module.training and len(given["input_ids"]) > 5:  # one client's batch
            raise torch.OutOfMemoryError("as the device says it")

    def made() -> FedAvg:
        module = fedavg(model)
        module.backbone.model.register_forward_pre_hook(scarce, with_kwargs=True)
        return module

    with pytest.warns(UserWarning, match="since a forward pass failed for all of them together"):
        ours = assert_same_federation(made, data, tmp_path, at_once=4, max_rounds=1)
    assert not ours.failures


def test_an_interrupt_ends_all_clients(model: Path, tmp_path: Path) -> None:
    class Interrupts(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
            if module.client.index == 2:
                raise KeyboardInterrupt

    before = threading.active_count()
    trainer = toy_trainer(
        tmp_path, execution=VectorizedClients(4), callbacks=[Interrupts()], clients_per_round=4
    )
    with pytest.warns(UserWarning, match="interrupted after 0 finished rounds"):
        trainer.fit(fedavg(model), data())
    assert threading.active_count() == before


# ---------------------------------------------------------------- what others see


def test_hooks_get_the_clients_own_module(model: Path, tmp_path: Path) -> None:
    class Notes(Callback):
        def __init__(self) -> None:
            self.heard: list[tuple[str, str]] = []
            self.seen: dict[str, set[int]] = {}

        def on_client_start(self, trainer: Any, module: Any, client: Any) -> None:
            self.heard.append(("start", client.id))
            assert module.client is client
            assert trainer.lightning_module is module

        def on_train_batch_end(
            self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int
        ) -> None:
            self.heard.append(("batch", module.client.id))
            self.seen.setdefault(module.client.id, set()).update(batch["index"].tolist())

        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            assert held <= {id(p) for p in module.parameters()}
            assert all(p.grad is not None for p in module.backbone.trainable().values())

    notes, alone = Notes(), Notes()
    run(fedavg(model), data(), tmp_path / "a", VectorizedClients(4), callbacks=[notes])
    run(fedavg(model), data(), tmp_path / "b", SequentialClients(), callbacks=[alone])
    assert sorted(notes.heard) == sorted(alone.heard)
    assert notes.seen == alone.seen
    assert notes.heard[:4] != alone.heard[:4]  # they take turns


def test_the_resident_model_is_left_as_it_was(model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, execution=VectorizedClients(2), max_rounds=1, test_at_end=False)
    module = fedavg(model)
    parameters = list(module.parameters())
    frozen = [p.detach().clone() for p in parameters if not p.requires_grad]
    hooks = [list(m._forward_hooks.values()) for m in module.modules()]
    trainer.fit(module, data())
    assert trainer.lightning_module is module
    assert all(a is b for a, b in zip(module.parameters(), parameters, strict=True))
    kept = [p for p in parameters if not p.requires_grad]
    assert all(torch.equal(a, b) for a, b in zip(kept, frozen, strict=True))
    assert [list(m._forward_hooks.values()) for m in module.modules()] == hooks
    assert not [m for m in module.modules() if "forward" in m.__dict__]
    assert_close(
        trainer.federation.broadcast,
        type(trainer.federation.broadcast)(module.backbone.trainable()),
    )


def test_a_client_costs_its_adapter(model: Path, tmp_path: Path) -> None:
    """The frozen model is in memory once."""
    trainer = toy_trainer(tmp_path, execution=VectorizedClients(3), max_rounds=1)
    module = fedavg(model)
    trainer.fit(module, data())
    runner: Any = trainer.execution._runner  # type: ignore[attr-defined]
    resident = {p.untyped_storage().data_ptr() for p in module.parameters()}
    stacks = {s.untyped_storage().data_ptr() for s in runner.models[0].stacks}
    for slot in runner.slots:
        held = {p.untyped_storage().data_ptr() for p in slot.module.parameters()}
        assert held <= resident | stacks
        assert slot.module.backbone is not module.backbone
        assert isinstance(slot.module.backbone, SequenceClassifier)


# ---------------------------------------------------------------- what is refused

ADVICE = r"for several clients at once: use lit_fed.federation.SequentialClients"


def refused(module: Any, folder: Path, what: str, **settings: Any) -> None:
    with pytest.raises(ValueError, match=f"VectorizedClients cannot run {what}.*{ADVICE}"):
        run(module, data(), folder, VectorizedClients(2), max_rounds=1, **settings)


def test_perturbed_weights_are_refused(model: Path, tmp_path: Path) -> None:
    module = MSI(toy_backbone(model), perturbation=WeightNoise(), warmup_steps=0)
    refused(module, tmp_path, "WeightNoise, which changes the model's weights,")


def test_checkpointed_gradients_are_refused(model: Path, tmp_path: Path) -> None:
    backbone = SequenceClassifier(str(model), peft=LoraConfig(r=2), gradient_checkpointing=True)
    refused(FedAvg(backbone), tmp_path, "`model.backbone.gradient_checkpointing`")


def test_rows_that_depend_on_one_another_are_refused(model: Path, tmp_path: Path) -> None:
    module = fedavg(model)
    norm = torch.nn.BatchNorm1d(16, track_running_stats=False)
    module.backbone._base.bert.pooler.activation = torch.nn.Sequential(norm)
    refused(module, tmp_path, r"a model with BatchNorm1d \(.*pooler.activation.0\)")


class Odd(FedAvg):
    way = ""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        model: Any = self.backbone.model
        embeddings = model.get_input_embeddings()
        if self.way == "generates":
            self.backbone.generate(["good"])
        if self.way == "adds":
            self.backbone.add_adapter("more")
        if self.way == "swaps":
            embeddings.weight = torch.nn.Parameter(embeddings.weight * 2)
        if self.way == "hooks":
            embeddings.register_forward_pre_hook(lambda module, args: None)
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("way", "what"),
    [
        ("generates", "`backbone.generate`"),
        ("adds", "adding adapter 'more' while clients train"),
        ("swaps", "a change of the weights of .*word_embeddings for one pass"),
        ("hooks", "hooks other than on the output of .*word_embeddings"),
    ],
)
def test_odd_methods_are_refused(way: str, what: str, model: Path, tmp_path: Path) -> None:
    before = threading.active_count()
    module = fedavg(model, type("Odd", (Odd,), {"way": way}))
    refused(module, tmp_path, what, clients_per_round=2)
    assert threading.active_count() == before


def test_a_model_that_draws_is_refused(model: Path, tmp_path: Path) -> None:
    class Draws(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.rand_like(x)

    module = fedavg(model)
    module.backbone._base.bert.pooler.activation = Draws()
    refused(module, tmp_path, "a model that draws random numbers by `rand_like`")


def test_weights_read_past_their_layer_do_not_go_unnoticed(model: Path, tmp_path: Path) -> None:
    """A module that reads a client's own weight by itself would read nobody's."""

    class Reads(torch.nn.Module):
        def __init__(self, head: Any) -> None:
            super().__init__()
            self.head = [head]

        def forward(self, x: Tensor) -> Tensor:
            return x + self.head[0].modules_to_save["default"].weight.sum()

    module = fedavg(model)
    base = module.backbone._base
    base.bert.pooler.activation = Reads(base.classifier)
    refused(module, tmp_path, "a model that reads weights of adapters past their layers")


def test_several_processes_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"VectorizedClients runs in one process, but .* ask for 2"
    ):
        run(fedavg(model), data(), tmp_path, VectorizedClients(), devices=2)


def test_the_number_at_once_is_checked() -> None:
    with pytest.raises(
        ValueError,
        match=r"`trainer.execution.clients_at_once` is expected to be at least 1, but got 0",
    ):
        VectorizedClients(clients_at_once=0)
