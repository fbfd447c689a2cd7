"""A watch over the processes of a run, with real ones."""

import subprocess
import sys
import time
from collections.abc import Callable

from lit_fed.federation.execution.liveness import Loss
from lit_fed.federation.execution.process_group import ChildWatch


def test_a_death_behind_a_process_that_lives_is_seen() -> None:
    told: list[str] = []

    class Heard(Loss):
        """Ends nobody: this process goes on."""

        def tell(self, named: str, last: Callable[[], None] = lambda: None) -> None:
            told.append(named)

    commands = ["import time; time.sleep(60)", "raise SystemExit(3)"]
    children = [subprocess.Popen([sys.executable, "-c", command]) for command in commands]
    try:
        watch = ChildWatch(children, Heard())
        watch.start()
        ends = time.monotonic() + 20
        while not told and time.monotonic() < ends:
            time.sleep(0.05)
        assert told == ["process 2 ended with exit code 3"]
    finally:
        for child in children:
            child.kill()
            child.wait()
