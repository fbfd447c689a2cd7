"""FedSDR: two adapters, two stages, and one of them that leaves the client."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch import Callback
from peft import LoraConfig, PromptTuningConfig
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from lit_fed import FedAvg, FederatedTrainer, FedSDR
from lit_fed.backbones import BitFitConfig, SequenceClassifier
from lit_fed.configuration_error import ConfigurationError
from lit_fed.methods.rewriting import NoFilter, Rewriting, SoftTargets
from tests.federation.execution.agreement import TOLERANCE, adamw, run
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_trainer, without_times
from tests.methods.toy_methods import continue_text, lm_data, save_sober_model, save_toy_lm
from tests.slow import slow_but


def slow_adamw(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=1e-3)


def fedsdr(model: Path, dropout: float = 0.0, **settings: Any) -> FedSDR:
    given = {"optimizer": fast_adamw, "private_steps": 2, "shared_steps": 3}
    return FedSDR(toy_backbone(model, dropout), **given | settings)


def fit(
    model: Path, folder: Path, ckpt_path: str | None = None, method: Any = fedsdr, **trainer: Any
) -> FederatedTrainer:
    given = {"max_rounds": 2, "clients_per_round": 3, "test_at_end": False} | trainer
    federated = toy_trainer(folder, **given)
    federated.fit(method(model), toy_data(), ckpt_path)
    return federated


def values(module: FedSDR, adapter: str) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in module.backbone.trainable(adapter).items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


class Watches(Callback):
    """What R and S were at the beginning of each stage, and at the end of the client's round.

    Args:
        careless: What is done to the backbone in the middle of a stage.
    """

    def __init__(self, careless: Callable[[Any], None] | None = None) -> None:
        self.careless = careless
        self.seen: list[tuple[str, str, dict[str, Tensor], dict[str, Tensor]]] = []
        self.batches: list[tuple[int, str, str, dict[str, Tensor]]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, index: int) -> None:
        client = module.client
        note = (client.round, client.id, module.stage.name)
        begins = not self.batches or self.batches[-1][:3] != note
        self.batches.append((*note, {k: v.clone() for k, v in batch.items()}))
        if begins:
            self._note(module)
        elif self.careless is not None:
            self.careless(module.backbone)

    def on_client_end(self, trainer: Any, module: Any, update: Any) -> None:
        self._note(module)

    def _note(self, module: Any) -> None:
        place = (module.client.id, module.stage.name)
        self.seen.append((*place, values(module, "default"), values(module, "private")))


def set_adapter_of_peft(backbone: Any) -> None:
    backbone.model.base_model.set_adapter(["default", "private"])


def activate(backbone: Any) -> None:
    backbone.activate("default", "private")


def use_another(backbone: Any) -> None:
    with backbone.using("default"):
        pass


@pytest.mark.parametrize(
    "careless", slow_but(None, activate, of=[None, set_adapter_of_peft, activate, use_another])
)
def test_the_frozen_adapter_stays_bit_for_bit(
    careless: Callable[[Any], None] | None, toy_model: Path, tmp_path: Path
) -> None:
    watches = Watches(careless)
    fit(toy_model, tmp_path, callbacks=[watches], max_rounds=1, keep_optimizer_state=True)
    stages = watches.seen
    assert [stage for _, stage, _, _ in stages[:3]] == ["private", "shared", "shared"]
    for begin in range(0, len(stages), 3):
        (_, _, r0, s0), (_, _, r1, s1), (_, _, r2, s2) = stages[begin : begin + 3]
        assert same(r0, r1)
        assert not same(s0, s1)
        assert same(s1, s2)
        assert not same(r1, r2)
        assert all(not bool(t.any()) for n, t in s0.items() if "lora_B" in n)


# ---------------------------------------------------------------- beside a plain loop


class Plain:
    """W = W_0 + 2 B_r A_r + 3 B_s A_s in a model of transformers, in double precision."""

    def __init__(self, folder: Path, shared: dict[str, Tensor], private: dict[str, Tensor]) -> None:
        model = AutoModelForSequenceClassification.from_pretrained(folder).double().eval()
        self.model, self.base = model, {n: p.detach() for n, p in model.named_parameters()}
        self.shared, self.private = _double(shared), _double(private)

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        weights = {n: t for n, t in self.shared.items() if "lora" not in n}
        for name in self.shared:
            if "lora_A" in name:
                up, layer = name.replace("lora_A", "lora_B"), name.replace("lora_A.", "")
                weights[layer] = self.base[layer]
                for scale, factors in ((2.0, self.shared), (3.0, self.private)):
                    weights[layer] = weights[layer] + scale * factors[up] @ factors[name]
        inputs = {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask")}
        logits: Tensor = torch.func.functional_call(self.model, weights, (), inputs).logits
        return logits

    def train(
        self, batches: list[dict[str, Tensor]], shared: bool, initial: "Plain | None" = None
    ) -> None:
        """On the labels, or half on what the initial model predicts."""
        trained = list((self.shared if shared else self.private).values())
        for tensor in trained:
            tensor.requires_grad_()
        optimizer = adamw(trained)
        for batch in batches:
            targets = torch.nn.functional.one_hot(batch["labels"], 2).double()
            if initial is not None:
                with torch.no_grad():
                    predicted = initial.logits(batch).softmax(-1).float()
                    targets = (targets.float() + predicted).div(2).double()
            logits = self.logits(batch)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits, targets).backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
        for tensor in trained:
            tensor.requires_grad_(False)


def _double(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        n.removeprefix("base_model.model."): t.detach().clone().double() for n, t in state.items()
    }


def test_two_rounds_are_those_of_the_equations(tmp_path: Path) -> None:
    model = save_sober_model(tmp_path / "model")
    module = FedSDR(
        toy_backbone(model),
        optimizer=adamw,
        private_steps=2,
        shared_steps=3,
        private_rank=2,
        private_alpha=6,
    )
    shared, private = values(module, "default"), values(module, "private")
    assert {tuple(t.shape) for n, t in private.items() if "lora_A" in n} == {(2, 32)}
    watches = Watches()
    data = toy_data(num_clients=2)
    state = run(module, data, tmp_path / "run", None, callbacks=[watches])

    sizes = {client.id: len(client.rows) for client in data.clients}
    kept, initial = dict.fromkeys(sizes, private), Plain(model, shared, private)
    for number in range(2):
        sent = {}
        for client in sizes:
            plain = Plain(model, shared, kept[client])
            for stage in ("private", "shared"):
                found = [b for *place, b in watches.batches if place == [number, client, stage]]
                assert len(found) == (2 if stage == "private" else 3)
                plain.train(found, stage == "shared", initial if stage == "private" else None)
            kept[client], sent[client] = plain.private, plain.shared
        total = sum(sizes.values())
        shared = {
            n: sum(sizes[c] / total * sent[c][n] for c in sizes)  # type: ignore[misc]
            for n in next(iter(sent.values()))
        }
    _assert_close(_double(state.broadcast.tensors), shared)
    for client, own in kept.items():
        _assert_close(_double(state.clients[client].private.parts["private"].tensors), own)


def _assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=TOLERANCE)


# ---------------------------------------------------------------- what leaves a client, and what stays


def test_uploads_are_those_of_lora_fedavg(toy_model: Path, tmp_path: Path) -> None:
    def fedavg(model: Path) -> FedAvg:
        return FedAvg(toy_backbone(model), optimizer=fast_adamw)

    ours = fit(toy_model, tmp_path / "ours", max_rounds=1)
    theirs = fit(toy_model, tmp_path / "theirs", method=fedavg, max_rounds=1, local_steps=3)
    up, more = (one.federation.ledger for one in (ours, theirs))
    assert (up.up, {n: sent for n, (sent, _) in up.clients.items() if sent}) == (
        more.up,
        {n: sent for n, (sent, _) in more.clients.items()},
    )
    # a client that no round has asked yet has rewritten by the model as well
    assert up.down == len(ours.datamodule.clients) * up.down // len(up.clients)
    assert len(up.clients) == len(ours.datamodule.clients) > len(more.clients)
    one, other = ours.federation.broadcast, theirs.federation.broadcast
    losses = {f"clients/train/{stage}/loss/mean" for stage in ("private", "shared")}
    assert losses <= ours.federation.history[0].keys()
    assert one.tensors.keys() == other.tensors.keys()
    assert not any("private" in name for name in one.tensors)
    assert {n: t.shape for n, t in one.tensors.items()} == {
        n: t.shape for n, t in other.tensors.items()
    }


def test_a_new_client_starts_from_nothing_and_others_keep_their_own(
    toy_model: Path, tmp_path: Path
) -> None:
    built = values(fedsdr(toy_model), "private")
    assert all(bool(t.any()) == ("lora_A" in n) for n, t in built.items())
    trainer = fit(toy_model, tmp_path, max_rounds=1)
    states = {n: s for n, s in trainer.federation.clients.items() if s.rounds}
    index = next(i for i, c in enumerate(trainer.datamodule.clients) if c.id not in states)
    trainer.act_as_client(index)
    assert same(values(trainer.lightning_module, "private"), built)
    kept = [state.private.parts["private"].tensors for state in states.values()]
    assert len(kept) == 3
    assert not same(kept[0], kept[1])
    (own,) = (i for i, c in enumerate(trainer.datamodule.clients) if c.id == next(iter(states)))
    module = trainer.act_as_client(own)
    assert same(values(module, "private"), kept[0])
    assert module.backbone.active_adapters == ("default", "private")
    assert trainer.act_as_server().backbone.active_adapters == ("default",)


def test_a_private_adapter_can_start_every_round_anew(toy_model: Path, tmp_path: Path) -> None:
    def resetting(model: Path) -> FedSDR:
        return fedsdr(model, reset_private=True)

    watches = Watches()
    trainer = fit(toy_model, tmp_path, method=resetting, callbacks=[watches], clients_per_round=1.0)
    starts = [s for _, stage, _, s in watches.seen[::3]]
    assert len(starts) == 8
    assert all(same(one, starts[0]) for one in starts)
    name = watches.seen[-1][0]
    index = [c.id for c in trainer.datamodule.clients].index(name)
    # its own model has the S that it has trained last
    assert same(values(trainer.act_as_client(index), "private"), watches.seen[-1][3])


@pytest.mark.parametrize("keep", slow_but(True, of=[False, True]))
def test_a_run_goes_on_bit_for_bit(keep: bool, toy_model: Path, tmp_path: Path) -> None:
    def method(model: Path) -> FedSDR:
        return fedsdr(
            model, 0.1, private_optimizer=slow_adamw, private_warmup_steps=6, warmup_steps=2
        )

    given = {"method": method, "keep_optimizer_state": keep, "validate_clients": True}
    whole = fit(toy_model, tmp_path / "whole", max_rounds=3, **given).federation
    fit(toy_model, tmp_path / "parts", max_rounds=1, **given)
    parts = fit(toy_model, tmp_path / "parts", "last", max_rounds=3, **given).federation
    assert parts.broadcast == whole.broadcast
    assert parts.clients == whole.clients
    assert without_times(parts.history) == without_times(whole.history)
    state = next(iter(whole.clients.values()))
    assert state.stage_steps == {"private": 2 * state.rounds, "shared": 3 * state.rounds}
    stages = {name.partition("/")[0] for name in state.optimizer.tensors}
    assert stages == ({"private", "shared"} if keep else set())
    for name, tensor in state.optimizer.tensors.items():
        stage = name.partition("/")[0]
        assert (".private." in name) == (stage == "private")
        if name.endswith("/step"):
            assert tensor.item() == state.stage_steps[stage]


def test_clients_rewrite_by_the_global_model_without_their_own_adapter(
    toy_model: Path, tmp_path: Path
) -> None:
    def refreshing(model: Path) -> FedSDR:
        return fedsdr(model, rewriting=SoftTargets(kappa=1.0, refresh_every=1))

    trainer = fit(toy_model, tmp_path, method=refreshing, max_rounds=1, clients_per_round=1.0)
    trainer._loop.prepare()
    module = trainer.act_as_server().eval()
    for client in trainer.datamodule.clients:
        made = trainer.federation.clients[client.id].prepared.parts["rewriting"]
        with torch.no_grad():
            logits = torch.cat([module(batch).logits for batch in module.batches(client.rows)])
        torch.testing.assert_close(made.tensors["predictions"], logits.softmax(-1))


def test_what_is_rewritten_reaches_the_private_adapter_alone(tmp_path: Path) -> None:
    model = save_toy_lm(tmp_path / "model")

    def resting(params: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=0.0)

    def trained(name: str, **settings: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        texts = Rewriting(NoFilter(), " the {reference} and", max_new_tokens=int(name[-1]))
        trainer = toy_trainer(tmp_path / name, max_rounds=1, clients_per_round=2)
        given = {"rewriting": texts, "private_steps": 2, "shared_steps": 2}
        trainer.fit(continue_text(FedSDR, model, **given | settings), lm_data())
        own = trainer.federation.clients["client-0"].private.parts["private"].tensors
        return dict(trainer.federation.broadcast.tensors), dict(own)

    # of S that stays where it is, nothing comes to R, whatever was rewritten
    still, other = (trained(f"still-{n}", private_optimizer=resting) for n in (1, 6))
    assert same(still[0], other[0])
    assert same(still[1], other[1])
    moved, else_moved = (trained(f"moved-{n}") for n in (1, 6))
    assert not same(moved[1], else_moved[1])
    # R has been trained, by raw rows and beside S
    assert not same(still[0], moved[0])


# ---------------------------------------------------------------- settings


def test_each_stage_has_its_own_settings(toy_model: Path) -> None:
    module = fedsdr(toy_model, private_optimizer=slow_adamw, private_warmup_steps=4, warmup_steps=0)
    rates = {}
    for stage in module.stages:
        module.start_stage(stage.name)
        made: Any = module.configure_optimizers()
        optimizer = made["optimizer"] if isinstance(made, dict) else made
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        own = module.backbone.trainable("private" if stage.name == "private" else "default")
        assert trained == {id(p) for p in own.values()}
        rates[stage.name] = optimizer.param_groups[0]["lr"]
    assert rates == {"private": 1e-3 / 4, "shared": 1e-2}
    assert [s.local_steps for s in module.stages] == [2, 3]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"private_steps": 0}, "`model.private_steps` is expected to be at least 1, but got 0"),
        ({"shared_epochs": 0}, "`model.shared_epochs` is expected to be at least 1, but got 0"),
        ({"private_warmup_steps": -1}, "`model.private_warmup_steps` is expected to be at least 0"),
        ({"private_rank": 0}, "`model.private_rank` is expected to be at least 1, but got 0"),
        ({"private_alpha": 0.0}, "`model.private_alpha` is expected to be finite and above 0"),
    ],
)
def test_numbers_out_of_range_are_refused(
    settings: dict[str, Any], says: str, toy_model: Path
) -> None:
    with pytest.raises(ValueError, match=says):
        fedsdr(toy_model, **settings)


@pytest.mark.parametrize(
    ("peft", "says"),
    [
        (None, "to be a LoRA, .*, but .*null"),
        (
            PromptTuningConfig(num_virtual_tokens=2),
            "to be a LoRA, .*, but .*PromptTuningConfig",
        ),
        (BitFitConfig(), "to be a LoRA, .*, but .*BitFitConfig"),
        (LoraConfig(r=2, use_dora=True), "to be a LoRA, .*, but it has .*lora_magnitude"),
    ],
)
def test_what_is_no_lora_is_refused(peft: Any, says: str, toy_model: Path) -> None:
    with pytest.raises(ValueError, match=f"`model` FedSDR expects `model.backbone.peft` {says}"):
        FedSDR(SequenceClassifier(str(toy_model), peft=peft))


# ---------------------------------------------------------------- one client


def test_a_stock_trainer_is_one_client_that_trains_r(toy_model: Path, tmp_path: Path) -> None:
    module, data = fedsdr(toy_model), toy_data()
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    settings |= {"default_root_dir": tmp_path, "enable_checkpointing": False, "max_epochs": 1}
    before = {name: values(module, name) for name in module.backbone.adapters}
    trainer: Any = lightning.Trainer(**settings)
    trainer.fit(module, datamodule=data)
    after = {name: values(module, name) for name in module.backbone.adapters}
    assert not same(before["default"], after["default"])
    assert same(before["private"], after["private"])
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    assert "train/shared/loss" in trainer.callback_metrics
    module.start_stage("private")
    with pytest.raises(ConfigurationError, match="a stock Trainer has no clients that prepare"):
        lightning.Trainer(**settings).fit(module, datamodule=data)
