"""Federations with rules over LoRA: what is trained, sent, kept and told, in every execution."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed import DDG, FedAvg, FederatedTrainer
from lit_fed.aggregation import (
    Aggregation,
    FedAvgM,
    FedSALoRA,
    FFALoRA,
    FlexLoRA,
    FLoRA,
    RoLoRA,
    WeightedAverage,
)
from lit_fed.aggregation.lora.distance import DISTANCE
from lit_fed.callbacks import ParameterChange
from lit_fed.federation import DistributedClients, ShardedClients
from tests.federation.execution.agreement import adamw, assert_same_federation, sgd
from tests.federation.execution.federation_cases import still
from tests.federation.execution.launched import last_state, python_m
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_trainer, without_times
from tests.slow import slow_but

Rule = Callable[[], Aggregation]


def mixed() -> FlexLoRA:
    return FlexLoRA({"client-0": 2, "client-2": 3}, {"client-2": 5})


RULES: dict[str, Rule] = {
    "ffa": FFALoRA,
    "fedsa": FedSALoRA,
    "fedsa, private head": lambda: FedSALoRA("private"),
    "rolora": RoLoRA,
    "flexlora": FlexLoRA,
    "mixed": mixed,
}
DIVIDED = ("ffa", "fedsa", "rolora", "mixed")  # over processes
SHARDED = ("fedsa", "mixed")


def module(folder: Path, rule: Rule, optimizer: Any = fast_adamw) -> FedAvg:
    return FedAvg(toy_backbone(folder), rule(), optimizer=optimizer, warmup_steps=0)


def two_rounds(folder: Path, rule: Rule, root: Path, **settings: Any) -> FederatedTrainer:
    trainer = toy_trainer(root, max_rounds=2, local_steps=2, clients_per_round=4, **settings)
    trainer.fit(module(folder, rule), toy_data())
    return trainer


@pytest.mark.parametrize("rule", slow_but("fedsa", "mixed", of=RULES))
def test_vectorized_clients_are_single_ones(rule: str, toy_model: Path, tmp_path: Path) -> None:
    assert_same_federation(
        lambda: module(toy_model, RULES[rule], adamw), toy_data, tmp_path, at_once=4, local_steps=2
    )


@pytest.fixture(scope="module")
def two_processes(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rules in two processes that train different clients, and in two that share each client."""
    root = tmp_path_factory.mktemp("processes")
    run = python_m("tests.aggregation.lora.test_federations", str(toy_model), str(root))
    assert run.returncode == 0, run.stderr
    return root


@pytest.mark.slow
def test_two_processes_are_one(toy_model: Path, two_processes: Path) -> None:
    for name in DIVIDED:
        two_rounds(toy_model, RULES[name], two_processes / "one" / name)
        one, two = (last_state(two_processes / count / name) for count in ("one", "two"))
        assert without_times(one.history) == without_times(two.history)
        assert (one.broadcast, one.server, one.clients, one.ledger) == (
            two.broadcast,
            two.server,
            two.clients,
            two.ledger,
        )


def without_dropout(folder: Path, rule: Rule, root: Path, **settings: Any) -> FederatedTrainer:
    """Its masks differ where processes share a batch; SGD does not amplify what rounding does to gradients."""
    trainer = toy_trainer(root, max_rounds=2, local_steps=2, clients_per_round=4, **settings)
    trainer.fit(FedAvg(still(folder), rule(), optimizer=sgd, warmup_steps=0), toy_data())
    return trainer


@pytest.mark.slow
def test_sharded_clients_are_whole_ones(toy_model: Path, two_processes: Path) -> None:
    for name in SHARDED:
        without_dropout(toy_model, RULES[name], two_processes / "whole" / name)
        one, two = (last_state(two_processes / count / name) for count in ("whole", "sharded"))
        assert two.ledger == one.ledger
        for mine, other in zip(two.history, one.history, strict=True):
            assert mine.get(DISTANCE, 0.0) == pytest.approx(
                other.get(DISTANCE, 0.0), rel=1e-3, abs=1e-6
            )
        ours, theirs = two.broadcast.tensors, one.broadcast.tensors
        assert ours.keys() == theirs.keys()
        for key, tensor in theirs.items():
            found, b = ours[key], key.replace("lora_A", "lora_B")
            if "lora_A" in key and b in theirs:  # factors of a decomposition have either sign
                found, tensor = ours[b] @ found, theirs[b] @ tensor
            elif "lora_B" in key and key.replace("lora_B", "lora_A") in theirs:
                continue
            torch.testing.assert_close(found, tensor, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", slow_but("flexlora", of=["ffa", "rolora", "flexlora"]))
def test_another_method_trains_with_them(rule: str, toy_model: Path, tmp_path: Path) -> None:
    def distilled() -> DDG:
        return DDG(toy_backbone(toy_model), RULES[rule](), optimizer=adamw, warmup_steps=0)

    state = assert_same_federation(distilled, toy_data, tmp_path, at_once=4, local_steps=2)
    assert all(math.isfinite(row["val/loss"]) for row in state.history)


def test_the_distance_is_what_a_rule_loses(toy_model: Path, tmp_path: Path) -> None:
    rules: dict[str, Rule] = {
        **RULES,
        "mean": WeightedAverage,
        "momentum": FedAvgM,
        "all of the rank": lambda: FlexLoRA(dict.fromkeys(("client-0", "client-1"), 1)),
    }
    told = {}
    for name, rule in rules.items():
        few = {"clients_per_round": 2} if name == "all of the rank" else {}
        trainer = toy_trainer(tmp_path / name, **({"max_rounds": 2, "clients_per_round": 4} | few))
        trainer.fit(module(toy_model, rule), toy_data())
        told[name] = [row.get(DISTANCE) for row in trainer.federation.history]
    for name in ("ffa", "rolora"):
        assert all(0 <= distance < 1e-6 for distance in told[name]), name
    for name in ("mean", "momentum", "flexlora", "mixed"):
        assert all(1e-4 < distance < 1 for distance in told[name]), name
    assert all(a < b for a, b in zip(told["flexlora"], told["mean"], strict=True))
    assert told["fedsa"] == told["fedsa, private head"] == [None, None]


def test_private_heads_differ_and_shared_ones_do_not(toy_model: Path, tmp_path: Path) -> None:
    kept, sent = {}, {}
    for head in ("shared", "private", "frozen"):
        trainer = two_rounds(toy_model, lambda head=head: FedSALoRA(head), tmp_path / head)
        state = trainer.federation
        kept[head] = [s.private.parts["kept"].tensors for s in state.clients.values()]
        sent[head] = state.broadcast.tensors
    is_head = {head: {n for n in held[0] if "classifier" in n} for head, held in kept.items()}
    assert (bool(is_head["private"]), is_head["shared"], is_head["frozen"]) == (True, set(), set())
    assert {head for head, held in sent.items() if any("classifier" in n for n in held)} == {
        "shared"
    }
    for name in is_head["private"]:
        assert not torch.equal(kept["private"][0][name], kept["private"][1][name])
    assert all("lora_A" in n for n in sent["private"])


@pytest.mark.parametrize("rule", [FFALoRA, RoLoRA, FLoRA], ids=lambda rule: rule.__name__)
def test_what_does_not_travel_has_not_changed_for_the_callback(
    rule: Rule, toy_model: Path, tmp_path: Path
) -> None:
    trainer = two_rounds(toy_model, rule, tmp_path, callbacks=[ParameterChange()])
    backbone = toy_backbone(toy_model)
    trained = {n: p.numel() for n, p in backbone.trainable().items()}
    without_a = sum(count for name, count in trained.items() if "lora_A" not in name)
    most = sum(trained.values()) if rule is FLoRA else without_a
    first = trainer.federation.history[0]["index/PE"]
    assert 0 < first <= 100 * most / backbone.num_parameters * (1 + 1e-6)  # a float32
    # AdamW moves every number that has a gradient
    assert first > 90 * without_a / backbone.num_parameters


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (FedSALoRA, "clients keep some of what they train"),
        (mixed, "client 'client-0' has another shape of .*lora_A"),
    ],
    ids=["kept", "mixed"],
)
def test_a_callback_says_why_it_does_not_know_how_much_clients_have_changed(
    rule: Rule, reason: str, toy_model: Path, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match=f"ParameterChange reports no PE: .*{reason}"):
        trainer = two_rounds(toy_model, rule, tmp_path, callbacks=[ParameterChange()])
    assert not any("PE" in name for row in trainer.federation.history for name in row)


def main() -> None:
    model, root = map(Path, sys.argv[1:])
    for name in DIVIDED:
        two_rounds(
            model, RULES[name], root / "two" / name, execution=DistributedClients(), devices=2
        )
    for name in SHARDED:
        shares: Any = {"execution": ShardedClients(), "devices": 2}
        without_dropout(model, RULES[name], root / "sharded" / name, **shares)


if __name__ == "__main__":
    main()
