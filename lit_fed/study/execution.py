"""Execution of a study's runs, several at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from rich.progress import Progress

from lit_fed.study.run import Run

if TYPE_CHECKING:
    from rich.console import Console


def execute(runs: Sequence[Run], jobs: int, console: Console) -> list[Run]:
    """Execute those of the runs that have not ended, each in a process of its own.

    Args:
        runs: The runs.
        jobs: Runs at a time, which share the cores. 0: as many as there are cores, at most 8.
        console: Where the progress is shown.

    Returns:
        The runs that failed.
    """
    cores = os.cpu_count() or 1
    jobs = jobs or min(cores, 8)
    failed: list[Run] = []
    with Progress(console=console) as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("runs", total=len(runs))

        def one(run: Run) -> None:
            if run.summary is None and run.execute(max(1, cores // jobs)) != 0:
                failed.append(run)
            progress.advance(bar)

        list(pool.map(one, runs))
    return failed
