import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from lit_fed import DDG, MSI, FedAvg, Payload
from lit_fed.federation import FederationState, ShardedClients, last_checkpoint
from lit_fed.federation.execution.sharded import part_of
from lit_fed.losses import masked_mean, parts_of_a_batch
from lit_fed.methods.teachers import AdapterTeacher
from tests.federation.execution.agreement import largest_difference
from tests.federation.execution.federation_cases import (
    SHARDED,
    adamw,
    asking_one,
    failing,
    still,
)
from tests.federation.execution.launched import config_with, dies, last_state, python_m
from tests.federation.malformed_clients import WAYS
from tests.federation.toy import toy_backbone, toy_data, toy_trainer, without_times
from tests.methods.toy_methods import save_toy_lm


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, toy_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_toy_lm(folder / "lm")
    (folder / "toy").symlink_to(toy_model)
    return folder / "toy"


_OF_THEIR_OWN = ("adamw", "half", "asking_one", "failing", "malformed")
TRAINED = tuple(case for case in SHARDED if case not in _OF_THEIR_OWN)


@pytest.fixture(scope="module")
def sharded(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every case in two processes; ``adamw`` goes on from a round of a single one."""
    root = tmp_path_factory.mktemp("sharded")
    adamw(models, root / "adamw", max_rounds=1)
    words = ("sharded", "2", str(models), str(root), *SHARDED)
    run = python_m("tests.federation.execution.federation_cases", *words)
    assert run.returncode == 0, run.stderr
    return root


def payloads(state: FederationState) -> list[Payload]:
    """What lasts of a federation: weights, private states, moments."""
    clients = [state.clients[name] for name in sorted(state.clients)]
    return [state.broadcast, *(c.private for c in clients), *(c.optimizer for c in clients)]


def rounding(case: str, models: Path, one: FederationState, folder: Path, **settings: Any) -> float:
    """How far single precision moves a run of one process, which the same run in double precision tells.

    Fabric shards nothing in double precision. Two runs in single precision that add the same numbers in
    another order are each about this far from the exact one, and at most twice as far from each other.
    """
    SHARDED[case](models, folder / case, precision="64-true", **settings)
    exact = last_state(folder / case)
    apart = max(map(largest_difference, payloads(one), payloads(exact)))
    assert 0 < apart < 1e-5
    return apart


def assert_close(ours: FederationState, theirs: FederationState, bound: float) -> None:
    """Weights, moments and metrics within the bound, all else the same."""
    assert ours.round == theirs.round
    assert ours.ledger == theirs.ledger
    assert ours.failures == theirs.failures
    assert ours.clients.keys() == theirs.clients.keys()
    for name, state in ours.clients.items():
        other = theirs.clients[name]
        assert (state.steps, state.rounds) == (other.steps, other.rounds)
    for one, two in zip(payloads(ours), payloads(theirs), strict=True):
        torch.testing.assert_close(dict(one.tensors), dict(two.tensors), rtol=0, atol=bound)
    histories = without_times(ours.history), without_times(theirs.history)
    for row, reference in zip(*histories, strict=True):
        assert row.keys() == reference.keys()
        for name in row:
            assert math.isclose(row[name], reference[name], rel_tol=1e-6, abs_tol=5 * bound), name


@pytest.mark.slow
@pytest.mark.parametrize("case", TRAINED)
def test_two_processes_train_as_one(case: str, models: Path, sharded: Path, tmp_path: Path) -> None:
    SHARDED[case](models, tmp_path / case)
    one, two = last_state(tmp_path / case), last_state(sharded / case)
    bound = 4 * rounding(case, models, one, tmp_path / "exact")
    assert_close(two, one, bound)
    # it did learn: the bound is not that of two runs that stand still
    first, last = one.history[0], one.history[-1]
    assert len(one.history) == 1 or last["val/loss"] != pytest.approx(first["val/loss"], abs=1e-3)
    name = "model.safetensors" if case == "every_weight" else "adapter_model.safetensors"
    files = [load_file(root / case / "adapter" / name) for root in (sharded, tmp_path)]
    torch.testing.assert_close(*files, rtol=0, atol=bound)


@pytest.mark.slow
def test_a_base_of_sixteen_bits_is_sharded_beside_weights_in_float32(
    models: Path, sharded: Path, tmp_path: Path
) -> None:
    """What both have learnt is the same up to the rounding of activations, which have 8 bits."""
    SHARDED["half"](models, tmp_path / "half")
    one, two = (last_state(root / "half").broadcast.tensors for root in (tmp_path, sharded))
    assert {tensor.dtype for tensor in two.values()} == {torch.float32}
    learnt = [name for name in one if "lora_B" in name]  # at first zero
    ours, theirs = (torch.cat([w[n].flatten() for n in learnt]) for w in (two, one))
    assert (ours - theirs).norm() < 0.1 * theirs.norm()


@pytest.mark.slow
def test_a_run_goes_on_sharded_and_in_one_process_again(
    models: Path, sharded: Path, tmp_path: Path
) -> None:
    adamw(models, tmp_path / "one")
    one = last_state(tmp_path / "one")
    bound = 4 * rounding("adamw", models, one, tmp_path / "exact")
    assert_close(last_state(sharded / "adamw"), one, bound)
    adamw(models, sharded / "adamw", max_rounds=4)
    adamw(models, tmp_path / "one", max_rounds=4)
    one = last_state(tmp_path / "one")
    bound = 4 * rounding("adamw", models, one, tmp_path / "exact", max_rounds=4)
    assert_close(last_state(sharded / "adamw"), one, bound)


@pytest.mark.slow
def test_a_client_that_fails_everywhere_is_left_out(
    models: Path, sharded: Path, tmp_path: Path
) -> None:
    two = last_state(sharded / "failing")
    assert two.failures == {"client-1": 2}
    assert two.round == 2
    with pytest.warns(UserWarning, match="the second client has no luck"):
        failing(models, tmp_path / "one")
    assert two.clients.keys() == last_state(tmp_path / "one").clients.keys()


@pytest.mark.slow
def test_a_black_box_is_asked_by_one_process(models: Path, sharded: Path, tmp_path: Path) -> None:
    asking_one(models, tmp_path / "one")
    one, two = last_state(tmp_path / "one"), last_state(sharded / "asking_one")
    assert two.failures == one.failures
    for row, expected in zip(two.history, one.history, strict=True):
        told = {name: value for name, value in expected.items() if "answers/" in name}
        assert told.items() <= row.items()
    assert any("answers/failed/error" in name for name in two.history[-1])
    first, second = (
        torch.load(sharded / f"asking_one.{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    assert without_times(first["history"]) == without_times(second["history"])


@pytest.mark.slow
def test_whatever_a_client_gives_is_its_failure_alone(sharded: Path) -> None:
    state = last_state(sharded / "malformed")
    assert state.failures == {"client-1": len(WAYS)}
    assert state.clients.keys() == {"client-0", "client-2"}


@pytest.mark.slow
def test_both_processes_hold_the_same_in_the_end(sharded: Path) -> None:
    for case in ("adamw", "distilled", "language", "half", "failing"):
        first, second = (
            torch.load(sharded / f"{case}.{rank}.pt", weights_only=True) for rank in (0, 1)
        )
        assert first["history"] == second["history"]
        assert all(torch.equal(first["weights"][k], v) for k, v in second["weights"].items())


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_run(tmp_path: Path) -> None:
    execution = "lit_fed.federation.ShardedClients"
    config = config_with(tmp_path, execution=execution, callbacks=[dies(1)])
    run = python_m("lit_fed", "fit", "--config", config)
    assert run.returncode != 0
    assert "lit-fed: error: process 0 of 2 has lost process 1" in run.stderr
    assert last_checkpoint(tmp_path / "run").name == "round=0001"


def test_one_process_needs_no_other(models: Path, tmp_path: Path) -> None:
    def fit(folder: str, **settings: Any) -> FederationState:
        trainer = toy_trainer(tmp_path / folder, max_rounds=1, **settings)
        trainer.fit(FedAvg(still(models), warmup_steps=0), toy_data())
        return last_state(tmp_path / folder)

    assert_close(fit("sharded", execution=ShardedClients()), fit("plain"), bound=0.0)
    assert not torch.distributed.is_initialized()
    assert "LOCAL_RANK" not in os.environ


def test_a_mean_over_parts_counts_what_each_part_holds() -> None:
    values = torch.tensor([[1.0, 2.0, 3.0], [10.0, 0.0, 0.0], [7.0, 5.0, 0.0]])
    mask = torch.tensor([[True, True, True], [True, False, False], [True, True, False]])
    parts = []
    for rows in (slice(0, 2), slice(2, 3)):
        with parts_of_a_batch(lambda count: mask.sum() / 2):
            parts.append(masked_mean(values[rows], mask[rows]))
    assert float((parts[0] + parts[1]) / 2) == pytest.approx(28 / 6)
    assert float(masked_mean(values, mask)) == pytest.approx(28 / 6)


@pytest.mark.parametrize(("rows", "parts"), [(6, 2), (5, 2), (1, 3), (4, 4)])
def test_parts_hold_every_row_once(rows: int, parts: int) -> None:
    weight = torch.rand(rows) + 0.1
    batch = {
        "input_ids": torch.arange(rows * 2).view(rows, 2),
        "labels": torch.arange(rows),
        "weight": weight,
    }
    divided = [part_of(batch, part, parts) for part in range(parts)]
    assert len({len(part["labels"]) for part in divided}) == 1
    kept = torch.cat([part["labels"] for part in divided])
    assert kept[kept >= 0].tolist() == list(range(rows))
    weights = torch.cat([part["weight"] for part in divided])
    assert torch.equal(weights[kept >= 0], weight)
    assert not weights[kept < 0].any()


def test_what_cannot_be_sharded_is_refused_by_name(models: Path, tmp_path: Path) -> None:
    def fit(module: Any) -> None:
        toy_trainer(tmp_path, execution=ShardedClients()).fit(module, toy_data())

    with pytest.raises(ValueError, match=r"`model.mu` is expected to be 0 where a batch is split"):
        fit(MSI(toy_backbone(models)))
    with pytest.raises(ValueError, match=r"`model.lambda_aggregate` .* is PublicConsensus"):
        fit(DDG(toy_backbone(models), teacher=AdapterTeacher(cache_mb=0.0)))
    with pytest.raises(ValueError, match=r"`model.teacher.cache_mb` is expected to be 0 .* 1024"):
        fit(DDG(toy_backbone(models), lambda_aggregate=0.0))
    module = FedAvg(toy_backbone(models))
    module.temperature = nn.Parameter(torch.ones(()))
    with pytest.raises(ValueError, match="but FedAvg has temperature beside it"):
        fit(module)
    with pytest.raises(ValueError, match=r"`trainer.strategy` is expected to be auto or fsdp"):
        toy_trainer(tmp_path, execution=ShardedClients(), strategy="ddp")
    with pytest.raises(ValueError, match=r"`trainer.execution.timeout` .* above 0, but got -1"):
        ShardedClients(timeout=-1)
