import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_fed import FedAvg, FederatedModule, Payload, SemanticConsensus
from lit_fed.aggregation import LocalOnly, WeightedAverage
from lit_fed.callbacks import RoundCheckpoint
from lit_fed.federation import (
    ClientExecution,
    FixedOrderSampler,
    SequentialClients,
    VectorizedClients,
)
from lit_fed.federation.client.local_batches import local_batches
from lit_fed.federation.client.local_settings import LocalSettings
from lit_fed.federation.randomness import reseed
from tests.federation.toy import (
    CLIENTS,
    fast_adamw,
    toy_backbone,
    toy_data,
    toy_module,
    toy_rows,
    toy_trainer,
)


def test_a_run_learns_and_leaves_its_files(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(
        tmp_path / "run", max_rounds=8, clients_per_round=1.0, loggers=True, local_epochs=2
    )
    trainer.fit(toy_module(toy_model), toy_data())
    history = trainer.federation.history
    assert [row["round"] for row in history] == list(range(1, 9))
    assert trainer.final_metrics["test/accuracy"] >= 0.8
    assert history[-1]["val/loss"] < history[0]["val/loss"]

    assert {p.name for p in (tmp_path / "run").iterdir()} >= {
        "metrics.csv",
        "checkpoints",
        "adapter",
        "summary.json",
    }
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["metrics"]["test/accuracy"] == trainer.final_metrics["test/accuracy"]
    events = EventAccumulator(str(tmp_path / "run")).Reload()
    assert [e.step for e in events.Scalars("val/accuracy")] == list(range(1, 9))
    np.testing.assert_allclose(
        [e.value for e in events.Scalars("val/accuracy")],
        [r["val/accuracy"] for r in history],
        rtol=1e-6,
    )


def test_bytes_are_those_of_the_payloads(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, max_rounds=2)
    trainer.fit(toy_module(toy_model), toy_data())
    adapter = sum(p.numel() * 4 for p in trainer.lightning_module.backbone.trainable().values())
    ledger = trainer.federation.ledger
    assert ledger.rounds == [(3 * adapter, 3 * adapter)] * 2
    assert trainer.federation.history[1]["bytes/total"] == 12 * adapter


def test_one_client_one_round_is_plain_training(toy_model: Path, tmp_path: Path) -> None:
    """An independent loop over the same batches ends at the same weights, bit for bit."""
    settings = {"num_clients": 1, "client_validation_fraction": 0.0}
    trainer = toy_trainer(
        tmp_path, max_rounds=1, clients_per_round=1, local_steps=13, accumulate_grad_batches=2
    )
    trainer.fit(toy_module(toy_model, dropout=0.0), toy_data(**settings))

    module, data = toy_module(toy_model, dropout=0.0), toy_data(**settings)
    data.setup()
    client = replace(trainer._loop.selection.client_at(trainer.federation, 0), round=0)
    trainable = [p for p in module.parameters() if p.requires_grad]
    optimizer = fast_adamw(trainable)
    module.train()
    reseed(0, 0, 0)  # the model's own dropout draws what the trainer's client drew
    settings = LocalSettings(local_steps=13, accumulate_grad_batches=2)
    rows, stage = data.clients[0].rows, module.stages[0]
    for local in local_batches(data, module.tokenizer, settings, client, rows, 0, stage):
        batch = local.batch
        output = module.backbone.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        )
        (
            torch.nn.functional.cross_entropy(output.logits, batch["labels"]) / local.accumulated
        ).backward()
        if local.ends_step:
            torch.nn.utils.clip_grad_norm_(trainable, 1.0)
            optimizer.step()
            optimizer.zero_grad()
    ours = trainer.federation.broadcast.tensors
    for name, parameter in module.backbone.trainable().items():
        torch.testing.assert_close(ours[name], parameter.detach(), rtol=1e-6, atol=1e-7)


def test_clients_do_not_see_one_another(toy_model: Path, tmp_path: Path) -> None:
    """A client's update is the same whoever trained before it."""

    class Uploads(Callback):
        def __init__(self) -> None:
            self.sent: dict[str, Payload] = {}

        def on_client_end(self, trainer: Any, module: Any, update: Any) -> None:
            self.sent[update.client_id] = update.payload

    sent = []
    for number, order in enumerate(([0, 1, 2, 3], [3, 2, 1, 0], [2])):
        uploads = Uploads()
        trainer = toy_trainer(
            tmp_path / str(number),
            max_rounds=1,
            clients_per_round=len(order),
            sampler=FixedOrderSampler(order),
            callbacks=[uploads],
        )
        trainer.fit(toy_module(toy_model), toy_data())
        sent.append(uploads.sent)
    assert len(sent[0]) == CLIENTS
    assert sent[0] == sent[1]
    assert all(sent[0][name] == payload for name, payload in sent[2].items())


class FailingClients(FedAvg):
    """Client 1 raises, client 2 turns into NaN."""

    failing: tuple[int, ...] = (1, 2)

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        loss = super().training_step(batch, batch_idx)
        if self.client.index in self.failing:
            if self.client.index == 1:
                raise RuntimeError("no more memory")
            return loss * float("nan")
        return loss


def failing_module(folder: Path) -> FailingClients:
    return FailingClients(toy_backbone(folder), optimizer=fast_adamw, warmup_steps=0)


def test_failed_clients_are_left_out_and_counted(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, max_rounds=2, clients_per_round=1.0, min_clients=2)
    with pytest.warns(
        UserWarning, match="client .* is left out: (no more memory|.*expected to be finite)"
    ):
        trainer.fit(failing_module(toy_model), toy_data())
    names = [c.id for c in trainer.datamodule.clients]
    assert trainer.federation.failures == {names[1]: 2, names[2]: 2}
    assert [row["clients/failed"] for row in trainer.federation.history] == [2, 2]
    assert names[1] not in trainer.federation.clients
    assert all(torch.isfinite(t).all() for t in trainer.federation.broadcast.tensors.values())


def test_the_run_ends_below_min_clients_and_keeps_its_rounds(
    toy_model: Path, tmp_path: Path
) -> None:
    trainer = toy_trainer(tmp_path, clients_per_round=1.0, min_clients=3)
    with (
        pytest.warns(UserWarning, match="is left out"),
        pytest.raises(
            RuntimeError,
            match=r"round 1: 2 of 4 clients finished, fewer than `trainer.min_clients` 3; the last",
        ),
    ):
        trainer.fit(failing_module(toy_model), toy_data())


def test_an_empty_round_keeps_the_global_state(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(
        tmp_path,
        max_rounds=2,
        clients_per_round=2,
        min_clients=0,
        sampler=FixedOrderSampler([1, 2]),
    )
    module = failing_module(toy_model)
    before = Payload(module.backbone.trainable())
    with pytest.warns(UserWarning, match="no client finished; the global state stays as it was"):
        trainer.fit(module, toy_data())
    assert trainer.current_round == 2
    assert trainer.federation.broadcast == before


def test_validation_weights_need_validated_clients(toy_model: Path, tmp_path: Path) -> None:
    def module() -> FedAvg:
        return FedAvg(toy_backbone(toy_model), WeightedAverage("validation"), fast_adamw, 0)

    with pytest.raises(ValueError, match=r"expects `trainer.validate_clients` to be true"):
        toy_trainer(tmp_path / "a", max_rounds=1).fit(module(), toy_data())
    trainer = toy_trainer(tmp_path / "b", max_rounds=1, validate_clients=True)
    trainer.fit(module(), toy_data(client_validation_fraction=0.2))
    row = trainer.federation.history[0]
    assert (
        row["clients/val/accuracy/min"]
        <= row["clients/val/accuracy/mean"]
        <= row["clients/val/accuracy/max"]
    )


def test_clients_own_models_are_validated_when_it_is_due_or_needed(
    toy_model: Path, tmp_path: Path
) -> None:
    def validated(module: FederatedModule, name: str, **settings: Any) -> list[bool]:
        trainer = toy_trainer(
            tmp_path / name,
            max_rounds=4,
            check_val_every_n_rounds=2,
            limit_train_batches=1,
            **settings,
        )
        trainer.fit(module, toy_data(public=toy_rows(8, 3)))
        return ["clients/val/loss/mean" in row for row in trainer.federation.history]

    def consensus(warmup_rounds: int | None) -> SemanticConsensus:
        return SemanticConsensus(
            toy_backbone(toy_model), optimizer=fast_adamw, warmup_rounds=warmup_rounds
        )

    alone = FedAvg(toy_backbone(toy_model), LocalOnly(), fast_adamw, 0)
    assert validated(alone, "alone") == [False, True, False, True]
    assert validated(consensus(1), "consensus") == [False, True, False, True]
    # its warm-up goes by their losses
    assert validated(consensus(None), "warm-up") == [True] * 4
    # asked for beside a global model
    averaged = FedAvg(toy_backbone(toy_model), None, fast_adamw, 0)
    assert validated(averaged, "averaged", validate_clients=True) == [True] * 4


def test_fast_dev_run_writes_nothing(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = toy_trainer(tmp_path / "run", fast_dev_run=True)
    trainer.fit(toy_module(toy_model), toy_data())
    assert trainer.current_round == 1
    assert trainer.global_step == 3
    assert not list(tmp_path.iterdir())


def test_limits_count_batches_and_fractions(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(
        tmp_path, max_rounds=1, clients_per_round=1.0, limit_train_batches=2, local_epochs=3
    )
    trainer.fit(toy_module(toy_model), toy_data())
    assert trainer.global_step == CLIENTS * 2 * 3


def test_warmup_counts_the_clients_own_steps(toy_model: Path, tmp_path: Path) -> None:
    rates: list[float] = []

    class Rates(Callback):
        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
            rates.append(optimizer.param_groups[0]["lr"])

    module = FedAvg(toy_backbone(toy_model), optimizer=fast_adamw, warmup_steps=10)
    trainer = toy_trainer(
        tmp_path,
        max_rounds=3,
        clients_per_round=1,
        local_steps=4,
        callbacks=[Rates()],
        sampler=FixedOrderSampler([0]),
    )
    trainer.fit(module, toy_data())
    assert rates == pytest.approx([1e-2 * min(1, (s + 1) / 10) for s in range(12)])


def test_validate_test_and_predict_use_the_checkpoint(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path / "run", max_rounds=2)
    trainer.fit(toy_module(toy_model), toy_data())
    fresh = toy_trainer(tmp_path / "run")
    module = toy_module(toy_model)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*this trainer has not trained")
        assert fresh.test(module, toy_data(), ckpt_path="last") == [trainer.final_metrics]
    assert fresh.validate(module) == [
        {k: v for k, v in trainer.federation.history[-1].items() if k.startswith("val/")}
    ]
    outputs = fresh.predict(module)
    index = torch.cat([o["index"] for o in outputs])
    logits = torch.cat([o["logits"] for o in outputs])
    labels = torch.tensor(toy_rows(40, 2)["label"])
    assert sorted(index.tolist()) == list(range(40))
    accuracy = (logits.argmax(-1) == labels[index]).float().mean().item()
    assert accuracy == pytest.approx(trainer.final_metrics["test/accuracy"])


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_an_untrained_model_is_not_evaluated_without_a_word(
    stage: str, toy_model: Path, tmp_path: Path
) -> None:
    trainer = toy_trainer(tmp_path / "run")
    with pytest.warns(UserWarning, match=f"{stage} takes FedAvg as it was given: this trainer"):
        getattr(trainer, stage)(toy_module(toy_model), toy_data())
    missing = r"`ckpt_path` is 'last', but .*run has no checkpoint"
    with pytest.raises(FileNotFoundError, match=missing):
        getattr(trainer, stage)(toy_module(toy_model), toy_data(), ckpt_path="last")


def test_nothing_is_said_of_a_model_that_has_been_trained(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path / "run", max_rounds=1)
    module = toy_module(toy_model)
    trainer.fit(module, toy_data())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*this trainer has not trained")
        assert trainer.test(module) == [trainer.final_metrics]
        loaded = FedAvg.from_run(tmp_path / "run", module=toy_module(toy_model))
        assert toy_trainer(tmp_path / "run").test(loaded, toy_data()) == [trainer.final_metrics]


def test_rounds_are_counted_from_1_in_tensorboard_and_in_the_history(
    toy_model: Path, tmp_path: Path
) -> None:
    def steps(tag: str) -> list[int]:
        found = EventAccumulator(str(tmp_path)).Reload().Scalars(tag)
        return [event.step for event in found]

    toy_trainer(tmp_path, max_rounds=2, loggers=True).fit(toy_module(toy_model), toy_data())
    assert steps("val/loss") == steps("round") == [1, 2]
    assert steps("test/loss") == [2]
    longer = toy_trainer(tmp_path, max_rounds=4, loggers=True)
    longer.fit(toy_module(toy_model), toy_data(), ckpt_path="last")
    assert steps("val/loss") == steps("clients/drift/mean") == [1, 2, 3, 4]
    assert [row["round"] for row in longer.federation.history] == [1, 2, 3, 4]
    assert (tmp_path / "metrics.csv").read_text().splitlines()[1].startswith("1.0,")


def test_settings_out_of_range_are_named(tmp_path: Path) -> None:
    for setting, value, said in [
        ("max_rounds", 0, "at least 1, but got 0"),
        ("min_clients", -1, "at least 0, but got -1"),
        ("max_rounds", None, "a whole number of at least 1, but got None"),
        ("gradient_clip_val", 0.0, "above 0 or null, but got 0.0"),
        ("gradient_clip_val", float("nan"), "above 0 or null, but got nan"),
        ("max_update_norm_ratio", "2", "above 1 or null, but got '2'"),
        ("limit_val_batches", None, "a count of at least 0 or a fraction in [0, 1], but got None"),
        ("limit_val_batches", 1.5, "a count of at least 0 or a fraction in [0, 1], but got 1.5"),
        ("limit_test_batches", float("nan"), "at least 0 or a fraction in [0, 1], but got nan"),
        ("limit_train_batches", 0, "at least 1 or a fraction above 0 and at most 1, but got 0"),
        ("limit_train_batches", 0.0, "at least 1 or a fraction above 0 and at most 1, but got 0.0"),
    ]:
        with pytest.raises(ValueError, match=f"`trainer.{setting}` is expected to be ") as error:
            toy_trainer(tmp_path, **{setting: value})
        assert said in str(error.value)


def test_a_fraction_of_few_batches_leaves_one(toy_model: Path, tmp_path: Path) -> None:
    """Of training, validation, test and prediction, however small a site is; nobody is left out."""

    class Batches(Callback):
        def __init__(self) -> None:
            self.of: dict[str, set[int]] = {}

        def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
            self.of.setdefault(f"train {module.client.id}", set()).add(args[-1])

        def on_validation_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
            self.of.setdefault("validation", set()).add(args[2])

        def on_test_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
            self.of.setdefault("test", set()).add(args[2])

    batches = Batches()
    limits = {f"limit_{split}_batches": 0.1 for split in ("train", "val", "test", "predict")}
    trainer = toy_trainer(
        tmp_path,
        max_rounds=1,
        clients_per_round=1.0,
        num_sanity_val_steps=0,
        callbacks=[batches],
        **limits,
    )
    module = toy_module(toy_model)
    trainer.fit(module, toy_data(batch_size=20, eval_batch_size=10))
    trained = {f"train {client.id}" for client in trainer.datamodule.clients}
    assert batches.of == {name: {0} for name in (*trained, "validation", "test")}
    assert not trainer.federation.failures
    assert trainer.federation.history[0].keys() >= {"val/loss", "val/accuracy"}
    assert len(trainer.predict(module)) == 1


def test_more_clients_than_a_round_has_cannot_have_to_finish(
    toy_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError,
        match=r"`trainer.min_clients` is expected to be at most the 2 clients of a round",
    ):
        toy_trainer(tmp_path, clients_per_round=2, min_clients=3).fit(
            toy_module(toy_model), toy_data()
        )


def test_more_clients_a_round_than_there_are_is_known_before_training(
    toy_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=r"`trainer.clients_per_round` is expected between 1 and the 4 clients"
    ):
        toy_trainer(tmp_path, clients_per_round=5).fit(toy_module(toy_model), toy_data())


def test_several_processes_are_refused(toy_model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"SequentialClients runs in one process, but .* ask for 2"
    ):
        toy_trainer(tmp_path, devices=2).fit(toy_module(toy_model), toy_data())


def test_lightnings_early_stopping_ends_a_federation_and_is_resumed(
    toy_model: Path, tmp_path: Path
) -> None:
    def stopping() -> EarlyStopping:
        # accuracy never rises by 1, so patience ends in the third validation
        return EarlyStopping("val/accuracy", mode="max", min_delta=1.0, patience=2)

    whole = toy_trainer(tmp_path / "whole", max_rounds=6, callbacks=[stopping()])
    whole.fit(toy_module(toy_model), toy_data())
    assert whole.current_round == 3
    toy_trainer(tmp_path / "parts", max_rounds=2, callbacks=[stopping()]).fit(
        toy_module(toy_model), toy_data()
    )
    resumed = toy_trainer(
        tmp_path / "parts", max_rounds=6, callbacks=[stopping()], validate_clients=True
    )
    resumed.fit(toy_module(toy_model), toy_data(), ckpt_path="last")
    assert resumed.current_round == 3


@pytest.mark.parametrize("execution", [SequentialClients(), VectorizedClients(clients_at_once=2)])
def test_mixed_precision_is_that_of_training_and_evaluation(
    execution: ClientExecution, toy_model: Path, tmp_path: Path
) -> None:
    seen: dict[str, set[torch.dtype]] = {"train": set(), "eval": set()}
    module = toy_module(toy_model)
    layer = module.backbone.model.base_model.model.bert.encoder.layer[0].intermediate.dense

    def look(layer: Any, args: Any, output: torch.Tensor) -> None:
        seen["train" if torch.is_grad_enabled() else "eval"].add(output.dtype)

    layer.register_forward_hook(look)
    trainer = toy_trainer(tmp_path, max_rounds=1, precision="bf16-mixed", execution=execution)
    trainer.fit(module, toy_data())
    assert seen == {"train": {torch.bfloat16}, "eval": {torch.bfloat16}}
    assert all(t.dtype == torch.float32 for t in trainer.federation.broadcast.tensors.values())


def test_how_a_fit_has_ended_says_nothing_of_the_next(toy_model: Path, tmp_path: Path) -> None:
    class StopsOnce(Callback):
        stopped = False

        def on_round_end(self, trainer: Any, module: Any, metrics: Any) -> None:
            trainer.should_stop, self.stopped = not self.stopped, True

    trainer = toy_trainer(tmp_path / "first", callbacks=[StopsOnce()])
    trainer.fit(toy_module(toy_model), toy_data())
    assert trainer.current_round == 1
    assert "test/accuracy" in trainer.final_metrics
    trainer.interrupted = True  # as Ctrl-C leaves it
    trainer.default_root_dir = tmp_path / "second"
    trainer.fit(toy_module(toy_model), toy_data(test=None))
    assert trainer.current_round == 3
    summary = json.loads((tmp_path / "second" / "summary.json").read_text())
    assert not summary["interrupted"]
    assert not [name for name in summary["metrics"] if name.startswith("test/")]


def test_running_statistics_that_pass_from_client_to_client_are_refused(
    toy_model: Path, tmp_path: Path
) -> None:
    module = toy_module(toy_model)
    body = module.backbone._base.bert
    body.pooler.activation = torch.nn.BatchNorm1d(32)
    said = r"`model.backbone` is expected to keep no running statistics.*pooler.activation is a BatchNorm1d"
    with pytest.raises(ValueError, match=said):
        toy_trainer(tmp_path).fit(module, toy_data())
    body.pooler.activation = torch.nn.BatchNorm1d(32, track_running_stats=False)
    toy_trainer(tmp_path, max_rounds=1).fit(module, toy_data())


def test_evaluations_go_back_to_what_the_fit_has_left(toy_model: Path, tmp_path: Path) -> None:
    """Also behind those of another checkpoint, other data, and another module."""
    trainer = toy_trainer(
        tmp_path, max_rounds=2, callbacks=[RoundCheckpoint(keep_last=None)], clients_per_round=1.0
    )
    module, data = toy_module(toy_model), toy_data()
    trainer.fit(module, data)
    (right,) = trainer.test(module)
    first = str(tmp_path / "checkpoints" / "round=0001")
    others = toy_data(test=toy_rows(30, 9), validation=toy_rows(20, 8))
    (other,) = trainer.test(module, others)
    (earlier,) = trainer.test(module, data, ckpt_path=first)
    assert len({one["test/loss"] for one in (right, other, earlier)}) == 3
    assert trainer.test(module) == [right]
    trainer.validate(module, others, ckpt_path=first)
    trainer.export(module, str(tmp_path / "exported"))
    exported = load_file(tmp_path / "exported" / "adapter_model.safetensors")
    left = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert exported.keys() == left.keys()
    for name, value in left.items():
        torch.testing.assert_close(exported[name], value, rtol=0, atol=0)
    with pytest.warns(UserWarning, match="as it was given"):
        trainer.test(toy_module(toy_model), data)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*as it was given")
        assert trainer.test(module) == [right]
