from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from lit_fed.federation import (
    ClientExecution,
    FederationState,
    SequentialClients,
    VectorizedClients,
    last_checkpoint,
)
from lit_fed.federation.run.checkpoint import load_checkpoint
from tests.federation import preparation_cases
from tests.federation.preparation_cases import fit
from tests.federation.task_sequence import TASKS, task_data
from tests.federation.toy import CLIENTS, toy_module, toy_trainer

EVERYONE = [f"client-{number}" for number in range(CLIENTS)]


def same(ours: FederationState, theirs: FederationState) -> bool:
    return ours.broadcast == theirs.broadcast and ours.clients == theirs.clients


def process(*given: object) -> int:
    """Run the cases in a process of their own; its exit code."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, preparation_cases.__file__, *map(str, given)]
    return subprocess.run(command, env=environment, capture_output=True, timeout=300).returncode


@pytest.mark.parametrize(
    "execution", [pytest.param(SequentialClients(), marks=pytest.mark.slow), VectorizedClients(2)]
)
def test_every_client_prepares_once_with_the_module_as_built(
    execution: ClientExecution, toy_model: Path, tmp_path: Path
) -> None:
    heard: list[tuple[str, int]] = []

    class Listens(Callback):
        def on_client_prepared(self, trainer: Any, module: Any, client: Any, prepared: Any) -> None:
            heard.append((client.id, prepared.nbytes))

    trainer, module = fit(toy_model, tmp_path, execution=execution, callbacks=[Listens()])
    assert module.made == EVERYONE
    assert heard == [(name, (2 + 1) * 4 + len("prepared")) for name in EVERYONE]
    state = trainer.federation
    assert not state.failures
    assert sorted(state.clients) == EVERYONE  # also those that no round has sampled
    assert "time/prepare" in state.history[0]
    assert "time/prepare" not in state.history[1]
    saved = load_checkpoint(last_checkpoint(tmp_path))
    assert saved.clients == state.clients
    assert not (tmp_path / "prepared").exists()

    fresh = toy_module(toy_model).eval()
    rows = trainer.datamodule.client_data("client-1").rows
    loader = trainer.datamodule.dataloader(rows, fresh.tokenizer)
    with torch.no_grad():
        mean = torch.cat([fresh(batch).logits for batch in loader]).mean(0)
    prepared = state.clients["client-1"].prepared
    torch.testing.assert_close(prepared.tensors["mean"], mean, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_run_killed_while_clients_prepare_goes_on_with_those_that_are_left(
    toy_model: Path, tmp_path: Path
) -> None:
    whole, _ = fit(toy_model, tmp_path / "whole")
    assert process(toy_model, tmp_path / "killed", 1, 2) == -signal.SIGKILL
    assert len(list((tmp_path / "killed" / "prepared").glob("client=*"))) == 2
    with pytest.raises(FileExistsError, match=r"go on with that run by --ckpt_path last"):
        fit(toy_model, tmp_path / "killed")
    with pytest.warns(UserWarning, match="has no checkpoint yet"):
        resumed, module = fit(toy_model, tmp_path / "killed", ckpt_path="last")
    assert module.made == EVERYONE[2:]
    assert same(resumed.federation, whole.federation)


def test_a_finished_round_keeps_what_was_prepared(toy_model: Path, tmp_path: Path) -> None:
    whole, _ = fit(toy_model, tmp_path / "whole")
    fit(toy_model, tmp_path / "parts", max_rounds=1)
    resumed, module = fit(toy_model, tmp_path / "parts", ckpt_path="last")
    assert module.made == []
    assert same(resumed.federation, whole.federation)


@pytest.mark.slow
def test_what_another_seed_prepared_is_not_taken(toy_model: Path, tmp_path: Path) -> None:
    process(toy_model, tmp_path / "killed", 1, 2)
    with pytest.warns(UserWarning, match="has no checkpoint yet"):
        _, module = fit(toy_model, tmp_path / "killed", ckpt_path="last", seed=5)
    assert module.made == EVERYONE


@pytest.mark.slow
def test_two_processes_share_the_preparation(toy_model: Path, tmp_path: Path) -> None:
    whole, _ = fit(toy_model, tmp_path / "whole")
    assert process(toy_model, tmp_path / "two", 2, 0) == 0
    assert same(load_checkpoint(last_checkpoint(tmp_path / "two")), whole.federation)


def test_a_client_that_cannot_prepare_is_named_and_left_out(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIENT_3_FAILS", "1")
    with (
        pytest.warns(UserWarning, match="'client-3' could not prepare: nothing to prepare"),
        pytest.warns(UserWarning, match="'client-3' is left out: .* to have prepared"),
    ):
        trainer, _ = fit(toy_model, tmp_path, clients_per_round=1.0, min_clients=3, max_rounds=1)
    assert trainer.federation.failures == {"client-3": 1}


def test_a_method_that_prepares_nothing_keeps_nothing(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, max_rounds=1, clients_per_round=2)
    trainer.fit(toy_module(toy_model), trainer_data := preparation_cases.toy_data())
    assert len(trainer_data.clients) == CLIENTS
    assert len(trainer.federation.clients) == 2
    assert all(state.prepared is None for state in trainer.federation.clients.values())


def test_a_client_prepares_the_rows_of_all_tasks(toy_model: Path, tmp_path: Path) -> None:
    trainer, module = fit(toy_model, tmp_path, task_data(), rounds_per_task=1)
    rows = {client.id: len(client.rows) for client in trainer.datamodule.clients}
    of_first = {c.id: len(c.rows) for c in trainer.datamodule.clients_in(TASKS[0])}
    assert module.seen == rows
    assert module.seen != of_first


def test_what_clients_outside_the_round_download_is_counted(
    toy_model: Path, tmp_path: Path
) -> None:
    trainer, _ = fit(toy_model, tmp_path, max_rounds=2)
    state = trainer.federation
    size = state.broadcast.nbytes
    assert [down for _, down in state.ledger.rounds] == [CLIENTS * size, 2 * size]
    assert sum(down for _, down in state.ledger.clients.values()) == (CLIENTS + 2) * size
    assert [row["bytes/down"] for row in state.history] == [CLIENTS * size, 2 * size]
