"""A watch over the processes of a run, with real ones."""

import subprocess
import sys
import time
from typing import Any

from lit_fed.federation.execution.process_group import ChildWatch


def test_a_death_behind_a_process_that_lives_is_seen() -> None:
    told: list[str] = []

    class Loss:
        def tell(self, what: str, end: Any) -> None:
            told.append(what)

    commands = ["import time; time.sleep(60)", "raise SystemExit(3)"]
    children = [subprocess.Popen([sys.executable, "-c", command]) for command in commands]
    try:
        watch = ChildWatch(children, Loss())  # type: ignore[arg-type]
        watch.start()
        ends = time.monotonic() + 20
        while not told and time.monotonic() < ends:
            time.sleep(0.05)
        assert told == ["process 2 ended with exit code 3"]
    finally:
        for child in children:
            child.kill()
            child.wait()
