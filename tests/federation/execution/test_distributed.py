import json
import os
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.strategies import DDPStrategy

from lit_fed.client import Client
from lit_fed.federation import DistributedClients, FederationState, last_checkpoint
from lit_fed.federation.client.local_settings import LocalSettings
from lit_fed.federation.execution import ClientExecution
from lit_fed.federation.execution.distributed import balanced, local_work
from lit_fed.methods.prototype_defense import PrototypeDefense
from lit_fed.payload import Payload
from tests.federation.execution.agreement import TOLERANCE
from tests.federation.execution.federation_cases import (
    CASES,
    adaptive,
    asking,
    compressed,
    consenting,
    corrected,
    failing,
    guarded,
    malformed,
    metered,
    plain,
    poisoned,
    private,
    taught,
    too_few,
    two_models,
    vectorized,
)
from tests.federation.execution.launched import config_with, dies, last_state, python_m
from tests.federation.malformed_clients import WAYS
from tests.federation.toy import (
    save_toy_model,
    toy_data,
    toy_module,
    toy_rows,
    toy_trainer,
    without_times,
)


def assert_same_state(ours: FederationState, theirs: FederationState) -> None:
    """Bit for bit, whatever the federation knows."""
    assert without_times(ours.history) == without_times(theirs.history)
    assert replace(ours, history=[]) == replace(theirs, history=[])


class FirstSays:
    """Collectives of two processes that run one after the other, the first one first."""

    def __init__(self, rank: int, said: list[bytes]) -> None:
        self.rank, self.said = rank, said

    def of_first(self, data: bytes) -> bytes:
        if self.rank == 0:
            self.said.append(data)
        return self.said[-1]


def test_processes_settle_on_what_the_first_one_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_fed.federation.execution.multi_process.is_alone", lambda: False)
    said: list[bytes] = []
    for rows in ([], [{"loss": 0.5}], [{"loss": 0.5}, {"loss": 0.25}]):  # of none at the start
        states = [
            FederationState(
                len(rows),
                Payload({"w": torch.tensor([x])}),
                Payload({"m": torch.tensor([x])}),
                history=[{**row, "rank": x} for row in rows],
            )
            for x in (0.0, 1.0)
        ]
        settled = []
        for rank, state in enumerate(states):
            execution = DistributedClients()
            execution._collectives = FirstSays(rank, said)  # type: ignore[assignment]
            settled.append(execution.settle(state))
        assert settled[0] is states[0]
        history = [*states[1].history[:-1], *states[0].history[-1:]]
        assert settled[1] == replace(states[0], history=history)


QUICK = ("plain", "private", "metered", "failing", "too_few", "vectorized")


def in_two_processes(toy_model: Path, root: Path, cases: Collection[str]) -> Path:
    words = ("distributed", "2", str(toy_model), str(root), *cases)
    run = python_m("tests.federation.execution.federation_cases", *words)
    assert run.returncode == 0, run.stderr
    # tables and summaries come from the first process only
    assert len(re.findall("all [24]", run.stdout)) == len(cases)
    return root


@pytest.fixture(scope="module")
def two_processes(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cases in two processes; ``plain`` goes on from two rounds of a single one."""
    root = tmp_path_factory.mktemp("distributed")
    plain(toy_model, root / "plain", max_rounds=2)
    return in_two_processes(toy_model, root, QUICK)


@pytest.fixture(scope="module")
def more_in_two_processes(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("more")
    save_toy_model(toy_model.parent / "other", width=16, extra_words=("unheard", "of"))
    return in_two_processes(toy_model, root, [case for case in CASES if case not in QUICK])


def test_a_run_goes_on_in_two_processes_bit_for_bit(
    toy_model: Path, two_processes: Path, tmp_path: Path
) -> None:
    plain(toy_model, tmp_path / "one")
    assert_same_state(last_state(two_processes / "plain"), last_state(tmp_path / "one"))
    weights = [
        p / "adapter" / "adapter_model.safetensors"
        for p in (two_processes / "plain", tmp_path / "one")
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_run_of_two_processes_goes_on_in_one(
    toy_model: Path, two_processes: Path, tmp_path: Path
) -> None:
    plain(toy_model, two_processes / "plain", max_rounds=4)
    plain(toy_model, tmp_path / "one", max_rounds=4)
    assert_same_state(last_state(two_processes / "plain"), last_state(tmp_path / "one"))


def test_private_states_follow_their_clients(
    toy_model: Path, two_processes: Path, tmp_path: Path
) -> None:
    private(toy_model, tmp_path / "one")
    one = last_state(tmp_path / "one")
    assert all(state.private for state in one.clients.values())
    assert_same_state(last_state(two_processes / "private"), one)


def test_metrics_are_of_their_own_client(
    toy_model: Path, two_processes: Path, tmp_path: Path
) -> None:
    """They do not wait for other processes' clients, nor mix with them; and no row is evaluated twice."""
    metered(toy_model, tmp_path / "one")
    one, two = last_state(tmp_path / "one"), last_state(two_processes / "metered")
    assert one.history[-1]["val/rows"] == len(toy_rows(40, 1))
    assert any("train/seen" in name for name in one.history[-1])
    assert_same_state(two, one)


@pytest.mark.slow
def test_compressed_uploads_and_what_waits_go_between_processes(
    toy_model: Path, more_in_two_processes: Path, tmp_path: Path
) -> None:
    compressed(toy_model, tmp_path / "one")
    one, two = last_state(tmp_path / "one"), last_state(more_in_two_processes / "compressed")
    assert all(state.attachments.parts.keys() == {"TopK.0"} for state in one.clients.values())
    assert_same_state(two, one)


@pytest.mark.slow
def test_attacks_are_the_same_in_two_processes(
    toy_model: Path, more_in_two_processes: Path, tmp_path: Path
) -> None:
    poisoned(toy_model, tmp_path / "one")
    one = last_state(tmp_path / "one")
    assert "backdoor/asr" in one.history[-1]
    assert any(state.attachments.parts for state in one.clients.values())
    assert_same_state(last_state(more_in_two_processes / "poisoned"), one)


@pytest.mark.slow
def test_clients_of_different_models_exchange_answers(
    toy_model: Path, more_in_two_processes: Path, tmp_path: Path
) -> None:
    two_models(toy_model, tmp_path / "one")
    one = last_state(tmp_path / "one")
    states = [one.clients[f"client-{index}"].private.tensors for index in range(2)]
    assert [max(t.shape[-1] for t in state.values()) for state in states] == [32, 16]
    assert set(one.broadcast.strings["answers"]) == {"good", "bad"}
    assert_same_state(last_state(more_in_two_processes / "two_models"), one)
    assert_processes_hold_the_same(more_in_two_processes, "two_models")


@pytest.mark.slow
def test_a_teacher_is_the_same_in_two_processes(
    toy_model: Path, more_in_two_processes: Path, tmp_path: Path
) -> None:
    taught(toy_model, tmp_path / "one")
    one = last_state(tmp_path / "one")
    assert one.history[-1]["clients/train/distill/mean"] > 0
    assert_same_state(last_state(more_in_two_processes / "taught"), one)


@pytest.mark.slow
def test_a_consensus_is_the_same_in_two_processes(
    toy_model: Path, more_in_two_processes: Path, tmp_path: Path
) -> None:
    consenting(toy_model, tmp_path / "one")
    one = last_state(tmp_path / "one")
    assert set(one.broadcast.parts["labels"].strings["texts"]) <= {"", "0", "1"}
    assert_same_state(last_state(more_in_two_processes / "consenting"), one)


@pytest.mark.slow
def test_rows_are_judged_the_same_in_two_processes(
    toy_model: Path, more_in_two_processes: Path, tmp_path: Path
) -> None:
    guarded(toy_model, tmp_path / "one")
    one = last_state(tmp_path / "one")
    assert one.history[-1]["clients/train/dropped_rows/max"] > 0
    two = last_state(more_in_two_processes / "guarded")
    judged = [PrototypeDefense.kept_rows(state.private) for state in two.clients.values()]
    assert judged
    assert None not in judged
    assert_same_state(two, one)


@pytest.mark.slow
def test_a_black_box_answers_in_either_process(
    toy_model: Path, more_in_two_processes: Path, tmp_path: Path
) -> None:
    asking(toy_model, tmp_path / "one")
    one = last_state(tmp_path / "one")
    assert one.clients["client-1"].steps == 0
    assert one.history[-1]["clients/answers/missing/mean"] == 0
    assert_same_state(last_state(more_in_two_processes / "asking"), one)


def test_failures_and_an_early_end_are_known_to_all(
    toy_model: Path, two_processes: Path, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="the second client has no luck"):
        failing(toy_model, tmp_path / "one")
    two = last_state(two_processes / "failing")
    assert_same_state(two, last_state(tmp_path / "one"))
    assert two.round == 2  # of 5: the first process asked for an end
    assert two.failures == {"client-1": 2}


@pytest.mark.slow
def test_whatever_a_client_gives_is_known_to_all_as_its_failure(
    toy_model: Path, more_in_two_processes: Path, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="'client-1' is left out"):
        malformed(toy_model, tmp_path / "one")
    two = last_state(more_in_two_processes / "malformed")
    assert two.failures == {"client-1": len(WAYS)}
    assert_same_state(two, last_state(tmp_path / "one"))


@pytest.mark.slow
@pytest.mark.parametrize("case", [corrected, adaptive])
def test_corrected_clients_and_servers_with_moments_are_the_same_in_two_processes(
    case: Any, toy_model: Path, more_in_two_processes: Path, tmp_path: Path
) -> None:
    name = case.__name__
    case(toy_model, tmp_path / "one")
    one, two = last_state(tmp_path / "one"), last_state(more_in_two_processes / name)
    memory = one.server.tensors if case is adaptive else one.broadcast.parts["controls"].tensors
    assert memory
    assert_same_state(two, one)


def test_each_process_may_vectorize_its_clients(
    toy_model: Path, two_processes: Path, tmp_path: Path
) -> None:
    vectorized(toy_model, tmp_path / "one")
    one, two = last_state(tmp_path / "one"), last_state(two_processes / "vectorized")
    assert one.round == two.round == 2
    torch.testing.assert_close(
        dict(two.broadcast.tensors), dict(one.broadcast.tensors), rtol=0, atol=TOLERANCE
    )


def test_all_processes_hold_the_same_in_the_end(two_processes: Path) -> None:
    for case in ("plain", "private", "failing", "vectorized"):
        assert_processes_hold_the_same(two_processes, case)


def assert_processes_hold_the_same(root: Path, case: str) -> None:
    first, second = (torch.load(root / f"{case}.{rank}.pt", weights_only=True) for rank in (0, 1))
    # with time: the history is that of the first process
    assert first["history"] == second["history"]
    assert first["weights"].keys() == second["weights"].keys()
    assert all(torch.equal(first["weights"][k], v) for k, v in second["weights"].items())


def test_too_few_clients_end_every_process_with_the_same_words(
    toy_model: Path, two_processes: Path, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="is left out"):
        said = too_few(toy_model, tmp_path / "one")
    assert "3 of 4 clients finished" in said
    assert "the second client has no luck" in said
    for rank in (0, 1):
        assert (two_processes / f"too_few.{rank}.txt").read_text() == said


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_the_run_that_fabric_launched(
    rank: int, tmp_path: Path
) -> None:
    config = config_with(tmp_path, strategy="ddp", callbacks=[dies(rank)])
    run = python_m("lit_fed", "fit", "--config", config)
    survivor = 1 - rank
    lost = f"lit-fed: error: process {survivor} of 2 has lost "
    assert run.returncode != 0
    assert lost in run.stderr or "lit-fed: process 1 ended with signal SIGKILL" in run.stderr
    assert "go on from the last finished round with ckpt_path='last'" in run.stderr
    assert last_checkpoint(tmp_path / "run").name == "round=0001"


@pytest.mark.slow
def test_a_process_in_a_long_client_is_told_of_the_loss(tmp_path: Path) -> None:
    config = config_with(tmp_path, callbacks=[dies(1, others_train=3600)])
    run = python_m("lit_fed", "fit", "--config", config)
    assert run.returncode == 130
    assert "lit-fed: process 1 ended with signal SIGKILL; go on from" in run.stderr
    assert "interrupted after 1 finished rounds" in run.stderr
    assert last_checkpoint(tmp_path / "run").name == "round=0001"


@pytest.mark.slow
def test_torchrun_ends_the_run_of_a_process_that_is_killed_and_goes_on(tmp_path: Path) -> None:
    launch = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "lit_fed")
    run = python_m(*launch, "fit", "--config", config_with(tmp_path, callbacks=[dies(1)]))
    assert run.returncode != 0
    assert re.search(r"rank +: 1 .*\n.*\(SIGKILL\)", run.stderr)
    assert last_checkpoint(tmp_path / "run").name == "round=0001"

    config = config_with(tmp_path)
    run = python_m(*launch, "fit", "--config", config, "--ckpt_path", "last")
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("all 3") == 1
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(rows) == 3
    alone = config_with(tmp_path, default_root_dir=str(tmp_path / "alone"), devices=1)
    assert python_m("lit_fed", "fit", "--config", alone).returncode == 0
    assert_same_state(last_state(tmp_path / "run"), last_state(tmp_path / "alone"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["rounds"] == 2


def test_one_process_needs_no_other(toy_model: Path, tmp_path: Path) -> None:
    alone = toy_trainer(tmp_path / "a", max_rounds=1, execution=DistributedClients())
    alone.fit(toy_module(toy_model), toy_data())
    toy_trainer(tmp_path / "b", max_rounds=1).fit(toy_module(toy_model), toy_data())
    assert_same_state(last_state(tmp_path / "a"), last_state(tmp_path / "b"))
    assert not torch.distributed.is_initialized()
    assert "LOCAL_RANK" not in os.environ


def test_shares_hold_everything_once_and_are_balanced() -> None:
    work = [9.0, 1.0, 5.0, 5.0, 2.0, 8.0, 3.0]
    shares = balanced(work, 3)
    assert sorted(p for share in shares for p in share) == list(range(len(work)))
    assert [sum(work[p] for p in share) for share in shares] == [11.0, 11.0, 11.0]
    assert balanced([1.0, 1.0], 3) == [[0], [1], []]


def test_work_is_counted_in_batches() -> None:
    client = Client("a", 0, 33, 0, 0, 0)
    for settings, expected in [
        (LocalSettings(), 5),
        (LocalSettings(local_epochs=2), 10),
        (LocalSettings(limit_train_batches=3), 3),
        (LocalSettings(local_steps=7, accumulate_grad_batches=2), 14),
    ]:
        assert local_work(settings, 8, client) == expected


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`trainer.execution.timeout` .* above 0, but got 0"):
        DistributedClients(timeout=0)
    with pytest.raises(ValueError, match=r"`trainer.execution.each` .* got DistributedClients"):
        DistributedClients(DistributedClients())
    for strategy in ("fsdp", DDPStrategy()):
        with pytest.raises(ValueError, match=r"`trainer.strategy` is expected to be auto or ddp"):
            toy_trainer(tmp_path, execution=DistributedClients(), strategy=strategy, devices=2)


def test_an_inner_execution_is_asked_what_it_cannot_do(toy_model: Path, tmp_path: Path) -> None:
    class Nothing(ClientExecution):
        def check(self, fabric: Any) -> None:
            raise ValueError("`trainer.execution` Nothing runs nothing")

        def run(self, training: Any, starts: Any) -> Any:
            raise NotImplementedError

    trainer = toy_trainer(tmp_path, execution=DistributedClients(Nothing()))
    with pytest.raises(ValueError, match="Nothing runs nothing"):
        trainer.fit(toy_module(toy_model), toy_data())
