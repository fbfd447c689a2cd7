"""The process of a run."""

import subprocess
import sys

import pytest

from lit_fed.study.run import environment


@pytest.mark.parametrize(("told", "used"), [(None, 3), ("1", 1)])
def test_threads_that_the_environment_tells_are_kept(
    monkeypatch: pytest.MonkeyPatch, told: str | None, used: int
) -> None:
    if told is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    command = [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]
    child = subprocess.run(command, env=environment(3), capture_output=True, text=True, check=True)
    assert int(child.stdout) == used
