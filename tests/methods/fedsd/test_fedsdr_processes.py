"""FedSDR in processes of its own: killed while clients prepare, and in two processes."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lit_fed.federation import FederationState
from tests.federation.execution.launched import ROOT, last_state
from tests.federation.toy import without_times
from tests.methods.fedsd.fedsdr_run import fit


def process(*given: object) -> int:
    command = [sys.executable, "-m", "tests.methods.fedsd.fedsdr_run", *map(str, given)]
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    return done.returncode


def assert_same(ours: FederationState, theirs: FederationState) -> None:
    """Bit for bit, S and the moments of both stages among it."""
    assert without_times(ours.history) == without_times(theirs.history)
    assert replace(ours, history=[]) == replace(theirs, history=[])
    trained = [state for state in theirs.clients.values() if state.rounds]
    assert all(state.private.parts["private"] for state in trained)
    stages = {name.partition("/")[0] for s in trained for name in s.optimizer.tensors}
    assert stages == {"private", "shared"}


@pytest.fixture(scope="module")
def whole(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("whole")
    fit(toy_model, folder)
    return last_state(folder)


@pytest.mark.slow
def test_a_run_killed_while_clients_rewrite_goes_on_bit_for_bit(
    whole: Any, toy_model: Path, tmp_path: Path
) -> None:
    assert process(toy_model, tmp_path, 1, 2) == -signal.SIGKILL
    assert len(list((tmp_path / "prepared").glob("client=*"))) == 2
    with pytest.warns(UserWarning, match="has no checkpoint yet"):
        fit(toy_model, tmp_path, "last")
    assert_same(last_state(tmp_path), whole)


@pytest.mark.slow
def test_two_processes_are_one(whole: Any, toy_model: Path, tmp_path: Path) -> None:
    assert process(toy_model, tmp_path, 2, 0) == 0
    assert_same(last_state(tmp_path), whole)
