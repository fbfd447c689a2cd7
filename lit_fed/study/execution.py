"""Execution of a study's runs, several at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from rich.progress import Progress

from lit_fed.study.run import Run

if TYPE_CHECKING:
    from rich.console import Console


def execute(
    runs: Sequence[Run], jobs: int, console: Console, ended: Callable[[], None] | None = None
) -> list[Run]:
    """Execute those of the runs that have not ended, each in a process of its own.

    Args:
        runs: The runs.
        jobs: Runs at a time, which share the cores. 0: as many as there are cores, at most 8.
        console: Where the progress is shown: a bar, or lines where it is no terminal.
        ended: Called after each run, by one thread at a time, and once at the end.

    Returns:
        The runs that failed.
    """
    cores = os.cpu_count() or 1
    jobs = jobs or min(cores, 8)
    failed: list[Run] = []
    one_at_a_time = threading.Lock()
    with Progress(console=console) as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("runs", total=len(runs))

        def say(what: str) -> None:
            if not console.is_terminal:
                console.print(what, soft_wrap=True, markup=False, highlight=False)

        def one(run: Run) -> None:
            if run.summary is None:
                say(f"{run.folder} begins, see its log.txt")
                if run.execute(max(1, cores // jobs)) != 0:
                    failed.append(run)
                say(f"{run.folder} {'failed' if run in failed else 'has ended'}")
                with one_at_a_time:
                    if ended is not None:
                        ended()
            progress.advance(bar)

        list(pool.map(one, runs))
    if ended is not None:
        ended()
    return failed
