"""SCAFFOLD beside a plain loop, where it converges to, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.fabric.plugins.precision import MixedPrecision

from lit_fed import SCAFFOLD, FedAvg, FederatedModule, Payload
from lit_fed.aggregation import (
    FedAvgM,
    FedSALoRA,
    FLoRA,
    LocalOnly,
    RoLoRA,
    WeightedAverage,
    Weighting,
)
from lit_fed.client import Client
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.federation.state import ClientState
from lit_fed.update import Update
from tests.aggregation.test_rule_that_freezes import HalfToTheFirst, TwoAdapters
from tests.federation.execution.agreement import assert_same_federation
from tests.federation.toy import (
    save_toy_model,
    toy_backbone,
    toy_data,
    toy_trainer,
    without_times,
)
from tests.methods.plain_loop import (
    Values,
    local_sgd,
    recorded,
    trained,
    under_names_of_payloads,
)
from tests.methods.toy_methods import save_sober_model
from tests.slow import slow_but

RATE, DECAY, WARMUP, SERVER_RATE = 0.2, 0.03, 7, 0.8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("sober") / "model")


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=RATE, weight_decay=DECAY)


# ---------------------------------------------------------------- the paper's algorithm


@pytest.mark.parametrize("weights", slow_but("size", of=["uniform", "size"]))
def test_three_rounds_are_those_of_a_plain_loop(weights: Any, model: Path, tmp_path: Path) -> None:
    """Two of four unequal clients a round, a warm-up over a client's own steps, weight decay, a server's rate."""
    rule = FedAvgM(momentum=0.0, lr=SERVER_RATE, weights=weights)
    module = SCAFFOLD(toy_backbone(model), rule, optimizer=sgd, warmup_steps=WARMUP)
    record, trainer, initial = recorded(module, tmp_path, clients_per_round=2, max_rounds=4)
    sizes = {c.id: len(c.rows) for c in trainer.datamodule.clients}
    assert len(set(sizes.values())) > 1
    counts = sizes if weights == "size" else dict.fromkeys(sizes, 1)
    theta = {name: p.detach().clone() for name, p in trained(initial).items()}
    zero = {name: torch.zeros_like(value) for name, value in theta.items()}
    c, own, steps = dict(zero), {client: dict(zero) for client in sizes}, dict.fromkeys(sizes, 0)
    for number in range(4):
        chosen = {k: b for (at, k), b in record.batches.items() if at == number}
        assert len(chosen) == 2
        in_round = sum(counts[k] for k in chosen)
        new, new_c = dict(theta), dict(c)
        for k, batches in chosen.items():
            before = own[k]
            ended, rates = local_sgd(
                initial,
                theta,
                batches,
                lambda step, k=k: RATE * min(1.0, (steps[k] + step + 1) / WARMUP),  # type: ignore[misc]
                lambda n, value, g, c_k=before, c=c: g + DECAY * value - c_k[n] + c[n],  # type: ignore[misc]
            )
            steps[k] += len(batches)
            own[k] = {n: before[n] - c[n] + (theta[n] - ended[n]) / rates for n in theta}
            for n in theta:
                new[n] = new[n] + SERVER_RATE * counts[k] / in_round * (ended[n] - theta[n])
                new_c[n] = new_c[n] + counts[k] / sum(counts.values()) * (own[k][n] - before[n])
        theta, c = new, new_c
    state = trainer.federation
    assert_equal(state.broadcast.tensors, theta, 1e-10)
    assert_equal(state.broadcast.parts["controls"].tensors, c, 1e-8)
    for client, kept in state.clients.items():
        assert_equal(kept.private.parts["controls"].tensors, own[client], 1e-8)
        assert max(float(v.abs().max()) for v in own[client].values()) > 0.01
    size = sum(8 * value.numel() for value in theta.values())
    assert state.ledger.rounds == [(4 * size, 2 * size), *[(4 * size, 4 * size)] * 3]


def assert_equal(found: Any, expected: Values, apart: float) -> None:
    named = under_names_of_payloads(expected)
    assert found.keys() == named.keys()
    for name, value in named.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=apart)


# ---------------------------------------------------------------- where it converges to


class MeanControl(SCAFFOLD):
    """Averages θ by size and control variates without weights, as OpenFedLLM does."""

    def shares(self, updates: Sequence[Update]) -> list[float]:
        return [1 / len(self.data.clients)] * len(updates)


def distance_from_the_optimum(
    method: type[FedAvg | SCAFFOLD], weights: Any, model: Path, rounds: int = 30
) -> float:
    """Of Σ p_k a_k ‖θ − t_k‖² / 2, when two of four clients have taken five steps in each round."""
    rule = WeightedAverage(weights)
    module = method(toy_backbone(model), rule, optimizer=lambda p: torch.optim.SGD(p, lr=0.1))
    module.datamodule = data = toy_data()
    data.setup()
    module.gradient_clipper = lambda *_: None
    resident, broadcast = ResidentModule(module), module.initial_broadcast()
    draw = torch.Generator().manual_seed(0)
    targets = [
        {n: torch.randn(t.shape, generator=draw) for n, t in broadcast.tensors.items()}
        for _ in data.clients
    ]
    curvatures = [1.0, 1.5, 2.0, 3.0]
    states = [ClientState()] * 4
    for number in range(rounds):
        updates = []
        for index in torch.randperm(4, generator=draw)[:2].tolist():
            held = data.clients[index]
            client = Client(held.id, index, len(held.rows), number, states[index].rounds, 0)
            resident.act_as_client(client, states[index], broadcast)
            optimizer: Any = module.configure_optimizers()
            for _ in range(5):
                optimizer.zero_grad()
                for name, value in module.backbone.trainable().items():
                    value.grad = curvatures[index] * (value.detach() - targets[index][name])
                module.configure_gradient_clipping(optimizer)
                optimizer.step()
            updates.append(Update(held.id, module.upload(), len(held.rows)))
            rounds_done = states[index].rounds + 1
            states[index] = ClientState(rounds=rounds_done, private=module.private_state())
        resident.act_as_server(broadcast, None)
        broadcast = module.aggregate(updates)
    counts = [len(c.rows) if weights == "size" else 1 for c in data.clients]
    assert len({len(c.rows) for c in data.clients}) > 1
    pulls = [count * curvature for count, curvature in zip(counts, curvatures, strict=True)]
    squares = [
        (
            found - sum(p * t[name] for p, t in zip(pulls, targets, strict=True)) / sum(pulls)
        ).square()
        for name, found in broadcast.tensors.items()
    ]
    return float(torch.cat([square.flatten() for square in squares]).mean().sqrt())


@pytest.mark.parametrize("weights", slow_but("size", of=["uniform", "size"]))
def test_it_converges_to_the_optimum_from_which_others_drift(weights: Any, model: Path) -> None:
    ours = distance_from_the_optimum(SCAFFOLD, weights, model)
    assert ours < 1e-3
    assert distance_from_the_optimum(FedAvg, weights, model) > 50 * ours
    if weights == "size":
        assert distance_from_the_optimum(MeanControl, weights, model) > 50 * ours


# ---------------------------------------------------------------- in a federation


def test_a_bound_is_put_on_the_gradient_and_not_on_its_correction(
    model: Path, tmp_path: Path
) -> None:
    """Else c_k would be no mean of gradients, and could not take out what is the client's own."""
    module = SCAFFOLD(toy_backbone(model), optimizer=lambda p: torch.optim.SGD(p, lr=RATE))
    bound = 0.05
    trainer = toy_trainer(tmp_path, clients_per_round=4, gradient_clip_val=bound)
    trainer.fit(module, toy_data())
    for state in trainer.federation.clients.values():
        control = torch.cat([t.flatten() for t in state.private.parts["controls"].tensors.values()])
        assert bound / 4 < float(control.norm()) <= bound * (1 + 1e-3)


def test_a_federation_resumes_bit_for_bit(model: Path, tmp_path: Path) -> None:
    def run(folder: str, rounds: int, ckpt_path: str | None = None) -> Any:
        trainer = toy_trainer(tmp_path / folder, max_rounds=rounds, local_steps=2)
        module = SCAFFOLD(toy_backbone(model), optimizer=sgd, warmup_steps=3)
        trainer.fit(module, toy_data(), ckpt_path)
        return trainer.federation

    whole = run("whole", 3)
    run("parts", 2)
    resumed = run("parts", 3, "last")
    assert resumed.broadcast == whole.broadcast
    assert set(resumed.broadcast.parts) == {"controls"}
    assert resumed.clients == whole.clients
    assert without_times(resumed.history) == without_times(whole.history)
    assert resumed.ledger == whole.ledger


@pytest.mark.parametrize("rule", slow_but(None, FedSALoRA, of=[None, FedSALoRA, RoLoRA]))
def test_vectorized_clients_give_what_single_ones_do(rule: Any, tmp_path: Path) -> None:
    folder = save_toy_model(tmp_path / "model", width=16)

    def module() -> FederatedModule:
        made = None if rule is None else rule()
        return SCAFFOLD(toy_backbone(folder, 0.2), made, optimizer=sgd, warmup_steps=3)

    state = assert_same_federation(module, toy_data, tmp_path, accumulate_grad_batches=2)
    controls = state.broadcast.parts["controls"].tensors
    # nothing is corrected of what does not travel
    assert any("lora_B" in name for name in controls) == (rule is not FedSALoRA)
    assert any("lora_A" in name for name in controls)
    for client in state.clients.values():
        assert client.private.parts["controls"].tensors.keys() == controls.keys()


def test_factors_that_train_in_turn_keep_their_control_variates(
    model: Path, tmp_path: Path
) -> None:
    def run(rounds: int) -> Any:
        trainer = toy_trainer(tmp_path / str(rounds), max_rounds=rounds, clients_per_round=4)
        trainer.fit(SCAFFOLD(toy_backbone(model), RoLoRA(), optimizer=sgd), toy_data())
        return trainer.federation

    first, second = (run(rounds).broadcast.parts["controls"].tensors for rounds in (1, 2))
    assert first.keys() < second.keys()
    assert not any("lora_A" in name for name in first)
    for name, value in first.items():
        assert torch.equal(second[name], value) == ("lora_B" in name)


def test_a_client_that_takes_no_step_keeps_its_control_variate(model: Path) -> None:
    module = SCAFFOLD(toy_backbone(model), optimizer=sgd)
    weights = module.initial_broadcast()
    own = Payload({name: torch.ones_like(value) for name, value in weights.tensors.items()})
    client = Client("a", 0, 8, round=1, rounds=1, steps=4)
    state = ClientState(rounds=1, private=Payload(parts={"controls": own}))
    ResidentModule(module).act_as_client(client, state, weights)
    assert module.private_state().parts["controls"] == own
    assert not any(bool(t.any()) for t in module.upload().parts["controls"].tensors.values())
    module.expected_upload().check(module.upload(), "the upload")
    module.act_as(None)
    assert not module.private_state().parts


def test_a_stock_trainer_takes_plain_steps(model: Path, tmp_path: Path) -> None:
    def fit(method: type[FedAvg | SCAFFOLD]) -> Payload:
        module = method(toy_backbone(model), optimizer=sgd)
        lightning.Trainer(
            max_steps=3,
            accelerator="cpu",
            default_root_dir=tmp_path,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        ).fit(module, datamodule=toy_data())
        return Payload(module.backbone.trainable())

    assert fit(SCAFFOLD) == fit(FedAvg)


@pytest.mark.parametrize(
    ("optimizer", "came"),
    [
        (lambda p: torch.optim.AdamW(p), "got AdamW"),
        (lambda p: torch.optim.SGD(p, momentum=0.9), "got SGD with momentum 0.9"),
        (lambda p: torch.optim.SGD(p, maximize=True), "got SGD with maximize True"),
    ],
)
def test_other_optimizers_are_refused_before_training(
    optimizer: Any, came: str, model: Path
) -> None:
    with pytest.raises(ValueError, match=rf"`model.optimizer` .* mean gradient, but {came}"):
        SCAFFOLD(toy_backbone(model), optimizer=optimizer)


def test_scaled_gradients_are_refused_before_training(model: Path, tmp_path: Path) -> None:
    trainer, scaler = toy_trainer(tmp_path), torch.amp.GradScaler("cpu")
    # on a CPU Fabric takes bfloat16 for it, which is not scaled
    trainer.fabric.strategy.precision = MixedPrecision("16-mixed", "cpu", scaler)
    with pytest.raises(ValueError, match=r"`trainer\.precision` .* with SCAFFOLD, .* 16-mixed"):
        trainer.fit(SCAFFOLD(toy_backbone(model)), toy_data())


def test_a_sequence_of_tasks_is_refused_before_training(model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, rounds_per_task=1)
    with pytest.raises(ValueError, match=r"`trainer\.rounds_per_task` is expected to be null with"):
        trainer.fit(SCAFFOLD(toy_backbone(model)), toy_data())


class Poisons(SCAFFOLD):
    """The second client sends an honest model and control variates that would move all others."""

    def upload(self) -> Payload:
        upload = super().upload()
        if self.client is None or self.client.index != 1:
            return upload
        controls = upload.parts["controls"].tensors
        return upload.with_parts({"controls": Payload({n: t * 1e6 for n, t in controls.items()})})


def test_absurd_control_variates_are_left_out_with_their_client(
    model: Path, tmp_path: Path
) -> None:
    trainer = toy_trainer(tmp_path, max_rounds=1, local_steps=2, clients_per_round=1.0)
    with pytest.warns(UserWarning, match="'client-1' is left out: its update has norm"):
        trainer.fit(Poisons(toy_backbone(model), optimizer=sgd), toy_data())
    assert trainer.federation.failures == {"client-1": 1}
    controls = trainer.federation.broadcast.parts["controls"].tensors.values()
    assert max(float(control.abs().max()) for control in controls) < 10


def test_rules_that_are_no_means_of_the_same_parameters_are_refused(model: Path) -> None:
    for rule in (LocalOnly(), TwoAdapters(), HalfToTheFirst(), FLoRA()):
        with pytest.raises(ValueError, match=rf"with SCAFFOLD, .* but got {type(rule).__name__}"):
            SCAFFOLD(toy_backbone(model), rule)
    kinds: tuple[Weighting, ...] = ("validation", "rounds")
    for kind in kinds:
        with pytest.raises(ValueError, match=rf"`model.aggregation.weights` of FedAvgM .* {kind}"):
            SCAFFOLD(toy_backbone(model), FedAvgM(weights=kind))
