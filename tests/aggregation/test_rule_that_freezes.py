"""Rules that decide what trains, what travels and what each client gets back."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from lit_fed import FedAvg, Payload
from lit_fed.aggregation import (
    Aggregation,
    FedSALoRA,
    FFALoRA,
    FlexLoRA,
    RoLoRA,
    WeightedAverage,
)
from lit_fed.backbones import Backbone
from lit_fed.client import Client
from lit_fed.federation import VectorizedClients
from lit_fed.federation.client.resident_module import ResidentModule
from lit_fed.federation.state import ClientState
from tests.federation.toy import (
    fast_adamw,
    toy_backbone,
    toy_data,
    toy_trainer,
    without_times,
)
from tests.slow import slow_but


def factor(names: Sequence[str], *letters: str) -> list[str]:
    """Names of LoRA's factors A or B, and of the head where it is asked for."""
    return [
        n
        for n in names
        if any(f"lora_{x}" in n or (x == "head" and "lora" not in n) for x in letters)
    ]


class HalfToTheFirst(WeightedAverage):
    """The first client downloads the A factors and the head alone."""

    def receives(self, names: Sequence[str], client: Client | None) -> Sequence[str]:
        return factor(names, "A", "head") if client is not None and client.index == 0 else names

    def broadcast_to(self, client: Client, broadcast: Payload) -> Payload:
        if client.index:
            return broadcast
        return broadcast.select(self.receives(list(broadcast.tensors), client))


class MixedRanks(FlexLoRA):
    """Two of the clients have other ranks."""

    def __init__(self) -> None:
        super().__init__(ranks={"client-0": 2, "client-2": 3}, alphas={"client-2": 5})


class TwoAdapters(WeightedAverage):
    """Odd clients train an adapter of their own, whose values the server averages with the others'."""

    def setup(self, backbone: Backbone) -> None:
        backbone.add_adapter("odd")

    def adapter(self, client: Client | None) -> str:
        return "odd" if client is not None and client.index % 2 else "default"


RULES = [FFALoRA, RoLoRA, FedSALoRA, MixedRanks, HalfToTheFirst, TwoAdapters]


def method(model: Path, rule: Aggregation, dropout: float = 0.0) -> FedAvg:
    return FedAvg(toy_backbone(model, dropout), rule, optimizer=fast_adamw, warmup_steps=0)


class Seen(Callback):
    """Keeps what clients send, and copies of their weights when they begin and when they end."""

    def __init__(self) -> None:
        self.began: list[dict[str, torch.Tensor]] = []
        self.sent: list[Any] = []
        self.ended: list[dict[str, torch.Tensor]] = []
        self.active: dict[int, tuple[str, ...]] = {}

    def on_client_start(self, trainer: Any, module: Any, client: Client) -> None:
        self.active[client.index] = module.backbone.active_adapters
        self.began.append({n: p.detach().clone() for n, p in module.backbone.trainable().items()})

    def on_client_end(self, trainer: Any, module: Any, update: Any) -> None:
        self.sent.append(update)
        self.ended.append({n: p.detach().clone() for n, p in module.backbone.trainable().items()})


def run(
    model: Path, folder: Path, rule: Callable[[], Aggregation], rounds: int = 4, **more: Any
) -> Any:
    seen, ckpt_path = Seen(), more.pop("ckpt_path", None)
    given = {"max_rounds": rounds, "local_steps": 2, "callbacks": [seen]} | more
    trainer = toy_trainer(folder, **given)
    module = method(model, rule())
    trainer.fit(module, toy_data(), ckpt_path)
    return trainer, module, seen


def nbytes(weights: dict[str, Any], names: Sequence[str]) -> int:
    return sum(weights[n].numel() * weights[n].element_size() for n in names)


def test_frozen_a_stays_as_it_was_built_and_does_not_travel(
    toy_model: Path, tmp_path: Path
) -> None:
    built = {
        n: p.detach().clone() for n, p in method(toy_model, FFALoRA()).backbone.trainable().items()
    }
    frozen, moving = factor(list(built), "A"), factor(list(built), "B", "head")
    assert frozen
    assert len(frozen) + len(moving) == len(built)
    trainer, module, seen = run(toy_model, tmp_path / "run", FFALoRA)
    for weights in (*seen.began, *seen.ended, module.backbone.trainable()):
        assert all(torch.equal(weights[n], built[n]) for n in frozen)
    assert any(not torch.equal(w, built[n]) for one in seen.ended for n, w in one.items())
    assert all(u.payload.tensors.keys() == set(moving) for u in seen.sent)
    assert trainer.federation.broadcast.tensors.keys() == set(moving)
    size = nbytes(built, moving)
    assert trainer.federation.ledger.rounds == [(3 * size, 3 * size)] * 4


@pytest.mark.parametrize("rule", slow_but(RoLoRA, FedSALoRA, MixedRanks, of=RULES))
def test_any_rule_resumes_bit_for_bit(
    rule: Callable[[], Aggregation], toy_model: Path, tmp_path: Path
) -> None:
    whole = run(toy_model, tmp_path / "whole", rule, rounds=3)[0].federation
    run(toy_model, tmp_path / "parts", rule, rounds=2)
    resumed = run(toy_model, tmp_path / "parts", rule, rounds=3, ckpt_path="last")[0].federation
    assert resumed.broadcast == whole.broadcast
    assert resumed.ledger == whole.ledger
    assert without_times(resumed.history) == without_times(whole.history)
    assert {k: s.private for k, s in resumed.clients.items()} == {
        k: s.private for k, s in whole.clients.items()
    }


@pytest.mark.parametrize("rule", slow_but(FedSALoRA, MixedRanks, TwoAdapters, of=RULES))
def test_any_rule_trains_vectorized_clients_as_it_does_single_ones(
    rule: Callable[[], Aggregation], toy_model: Path, tmp_path: Path
) -> None:
    settings = {"rounds": 2, "clients_per_round": 4}
    single = run(toy_model, tmp_path / "single", rule, **settings)[0].federation
    together = run(
        toy_model, tmp_path / "together", rule, **settings, execution=VectorizedClients(4)
    )[0].federation
    assert together.ledger == single.ledger
    for name, tensor in single.broadcast.tensors.items():
        torch.testing.assert_close(together.broadcast.tensors[name], tensor, rtol=0, atol=1e-5)


def test_alternating_factors_start_from_both_and_send_one(toy_model: Path, tmp_path: Path) -> None:
    trainer, module, seen = run(toy_model, tmp_path / "run", RoLoRA, rounds=2)
    names = list(module.backbone.trainable())
    for number, (began, ended, update) in enumerate(
        zip(seen.began, seen.ended, seen.sent, strict=True)
    ):
        still, moving = ("A", "B") if number < 3 else ("B", "A")
        assert all(torch.equal(began[n], ended[n]) for n in factor(names, still))
        assert not any(torch.equal(began[n], ended[n]) for n in factor(names, moving))
        assert update.payload.tensors.keys() == set(factor(names, moving, "head"))
    assert trainer.federation.broadcast.tensors.keys() == set(names)
    up, down = zip(*trainer.federation.ledger.rounds, strict=True)
    weights = module.backbone.trainable()
    assert down == (3 * nbytes(weights, names),) * 2
    assert up[1] == 3 * nbytes(weights, factor(names, "A", "head"))


def test_what_does_not_travel_stays_with_its_client(toy_model: Path, tmp_path: Path) -> None:
    trainer, module, seen = run(
        toy_model, tmp_path / "run", FedSALoRA, rounds=2, clients_per_round=4
    )
    names = factor(list(module.backbone.trainable()), "B")
    for number in range(4):  # each client begins its second round as it has ended the first
        before, after = (
            seen.ended[number],
            seen.began[4 + [u.client_id for u in seen.sent[4:]].index(seen.sent[number].client_id)],
        )
        assert all(torch.equal(before[n], after[n]) for n in names)
    first, second = seen.ended[0], seen.ended[1]
    assert not any(torch.equal(first[n], second[n]) for n in names)
    kept = [s.private.parts["kept"].tensors.keys() for s in trainer.federation.clients.values()]
    assert kept == [set(names)] * 4


def test_the_ledger_charges_each_client_what_it_downloads(toy_model: Path, tmp_path: Path) -> None:
    trainer, module, _ = run(
        toy_model, tmp_path / "run", HalfToTheFirst, rounds=2, clients_per_round=4
    )
    weights = module.backbone.trainable()
    whole, half = (
        nbytes(weights, list(weights)),
        nbytes(weights, factor(list(weights), "A", "head")),
    )
    assert 0 < half < whole
    ids = [c.id for c in trainer.datamodule.clients]
    assert {k: down for k, (_, down) in trainer.federation.ledger.clients.items()} == {
        name: 2 * (whole if index else half) for index, name in enumerate(ids)
    }
    assert trainer.federation.ledger.rounds[0][1] == 3 * whole + half


def test_nothing_of_a_client_is_left_to_the_next(toy_model: Path) -> None:
    class ByClient(WeightedAverage):
        def trains(self, names: Sequence[str], client: Client | None) -> Sequence[str]:
            return factor(names, "AB"[client.index]) if client else names

    module = method(toy_model, ByClient())
    resident, broadcast = ResidentModule(module), module.initial_broadcast()
    names = list(module.backbone.trainable())

    def become(index: int) -> set[str]:
        client = Client(str(index), index, 8, round=0, rounds=0, steps=0)
        resident.act_as_client(client, ClientState(), broadcast)
        return trained()

    def trained() -> set[str]:
        return {n for n, p in module.backbone.trainable().items() if p.requires_grad}

    assert become(0) == set(factor(names, "A"))
    module.backbone.activate("default")  # as a method with several adapters does
    assert trained() == set(factor(names, "A"))
    assert become(1) == set(factor(names, "B"))
    resident.act_as_server(broadcast, None)
    assert trained() == set(names)
    become(1)
    assert len(ResidentModule(module)._live) == len(resident._live)


def test_an_adapter_of_their_own_serves_clients_as_well(toy_model: Path, tmp_path: Path) -> None:
    trainer, module, seen = run(
        toy_model, tmp_path / "two", TwoAdapters, rounds=2, clients_per_round=4
    )
    one = run(toy_model, tmp_path / "one", WeightedAverage, rounds=2, clients_per_round=4)[0]
    assert module.backbone.adapters == ("default", "odd")
    assert seen.active == {i: ("odd" if i % 2 else "default",) for i in range(4)}
    assert module.backbone.active_adapters == ("default",)
    assert trainer.federation.broadcast == one.federation.broadcast
    assert trainer.final_metrics == one.final_metrics


def test_a_stock_trainer_freezes_as_well(toy_model: Path, tmp_path: Path) -> None:
    module = method(toy_model, FFALoRA())
    names = list(module.backbone.trainable())
    optimizer: Any = module.configure_optimizers()
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    weights = module.backbone.trainable()
    assert {n for n in names if id(weights[n]) in trained} == set(factor(names, "B", "head"))


def test_by_default_a_broadcast_is_for_everybody(toy_model: Path) -> None:
    module = method(toy_model, WeightedAverage())
    client = Client("a", 0, 8, round=0, rounds=0, steps=0)
    broadcast = module.initial_broadcast().with_parts({"more": Payload({"x": torch.ones(1)})})
    assert module.broadcast_to(client, broadcast) is broadcast
    halved = method(toy_model, HalfToTheFirst()).broadcast_to(client, broadcast)
    assert halved.nbytes < broadcast.nbytes
    assert halved.parts == broadcast.parts


def test_what_a_rule_does_not_let_travel_is_refused(toy_model: Path) -> None:
    module = method(toy_model, FFALoRA())
    with pytest.raises(ValueError, match=r"`model.aggregation` lets travel, but holds '.*lora_A"):
        module.download(Payload(module.backbone.trainable()))
    with pytest.raises(ValueError, match=r"lora_B.* are missing"):
        module.download(Payload())
    with pytest.raises(
        ValueError, match=r"of parameters of adapter 'default', but nothing are not"
    ):
        module.backbone.freeze(["nothing"])


def test_kept_moments_stay_with_the_parameter_that_they_are_of(
    toy_model: Path, tmp_path: Path
) -> None:
    """Where factors alternate, others train in each round: a moment goes by its parameter's name."""
    trainer, module, _ = run(
        toy_model,
        tmp_path,
        RoLoRA,
        rounds=3,
        clients_per_round=4,
        keep_optimizer_state=True,
    )
    shapes = {name: p.shape for name, p in module.named_parameters()}
    for state in trainer.federation.clients.values():
        steps = {}
        for name, tensor in state.optimizer.tensors.items():
            parameter, moment = name.removeprefix("train/").rsplit("/", 1)
            if moment == "step":
                steps[parameter] = int(tensor)
            else:
                assert tensor.shape == shapes[parameter]
        assert {steps[n] for n in steps if ".lora_B." in n} == {4}  # rounds 0 and 2, two steps each
        assert {steps[n] for n in steps if ".lora_A." in n} == {2}
