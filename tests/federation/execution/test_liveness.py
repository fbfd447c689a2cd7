"""No process of a run waits for one that has died, from its start on: real processes, and SIGKILL."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lit_fed.federation import DistributedClients, ShardedClients

ROOT = Path(__file__).parents[3]
SCRIPT = "tests.federation.execution.starting_process"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def start(*words: object, **environment: object) -> subprocess.Popen[str]:
    """A process that others may wait for; the output ends when the last one that it has started has ended."""
    kept = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE")}
    given = kept | {name: str(value) for name, value in environment.items()}
    return subprocess.Popen(
        [sys.executable, "-m", SCRIPT, *map(str, words)],
        cwd=ROOT,
        env=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def by_hand(
    size: int, *words: object, ranks: list[int] | None = None
) -> list[subprocess.Popen[str]]:
    """Processes that are started each by itself, as by a scheduler."""
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": size}
    chosen = range(size) if ranks is None else ranks
    return [start(size, *words, LOCAL_RANK=rank, **address) for rank in chosen]


def ended(process: subprocess.Popen[str], within: float) -> tuple[int, str]:
    try:
        said, _ = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.parametrize("kind", [[], ["sharded"]])
def test_processes_that_all_start_find_each_other(kind: list[str]) -> None:
    code, said = ended(start(2, 300, -1, "nowhere", *kind), within=200)
    assert code == 0, said
    assert said.count("met") == 2


@pytest.mark.slow
def test_a_process_whose_launcher_is_killed_at_the_start_ends_at_once() -> None:
    begun = time.monotonic()
    code, said = ended(start(2, 3000, 0, "launched"), within=150)
    assert code == -signal.SIGKILL
    assert "lit-fed: process 0, which has started this one, has died; go on from the last" in said
    assert time.monotonic() - begun < 150


@pytest.mark.slow
@pytest.mark.parametrize(("there", "missing"), [(0, "all of the others"), (1, "the first one")])
def test_a_process_does_not_wait_long_for_one_that_never_starts(there: int, missing: str) -> None:
    (alone,) = by_hand(2, 3, -1, "nowhere", ranks=[there])
    code, said = ended(alone, within=150)
    assert code == 1
    assert f"lost: process {there} of 2 has not found {missing} at 127.0.0.1:" in said
    assert (
        "within 3 s (`trainer.execution.start_timeout`): one has died, or was not started" in said
    )


@pytest.mark.slow
@pytest.mark.parametrize("dying", [0, 1])
def test_a_process_that_is_killed_before_there_is_a_group_ends_the_others(dying: int) -> None:
    processes = by_hand(3, 3000, dying, "found")
    results = [ended(one, within=200) for one in processes]
    assert {code for code, _ in results} == {-signal.SIGKILL}
    for rank, (_, said) in enumerate(results):
        assert rank == dying or f"lit-fed: process {dying} has died; go on from the last" in said


@pytest.mark.slow
@pytest.mark.parametrize("dying", [0, 2])
def test_survivors_that_are_busy_are_told(dying: int) -> None:
    processes = by_hand(3, 3000, dying, "grouped")
    results = [ended(one, within=250) for one in processes]
    for rank, (code, said) in enumerate(results):
        assert code != 0
        assert rank == dying or f"lit-fed: process {dying} has died; go on from the last" in said


@pytest.mark.parametrize("kind", [DistributedClients, ShardedClients])
def test_the_time_to_start_is_checked(kind: Any) -> None:
    with pytest.raises(
        ValueError, match=r"`trainer.execution.start_timeout` .* above 0, but got 0"
    ):
        kind(start_timeout=0)
