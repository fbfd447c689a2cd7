"""Several configurations × seeds by one command, and the table of their results.

``lit-fed-study --configs [configs/a.yaml,configs/b.yaml] --seeds [0,1,2] --root runs/study``
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

METRICS = ("test/accuracy", "test/loss")


@dataclass(frozen=True)
class Run:
    """One configuration with one seed.

    Attributes:
        config: The YAML.
        seed: Its ``seed_everything``.
        folder: Where its files are, ``<root>/<name of the YAML>/seed_<seed>``.
    """

    config: Path
    seed: int
    folder: Path

    @property
    def summary(self) -> dict[str, Any] | None:
        """What the run has ended with; None if it has not."""
        path = self.folder / "summary.json"
        summary: dict[str, Any] = (
            json.loads(path.read_text()) if path.is_file() else {"interrupted": True}
        )
        return None if summary["interrupted"] else summary


def study(
    configs: list[Path],
    seeds: tuple[int, ...] = (0, 1, 2),
    root: Path = Path("runs/study"),
    jobs: int = 0,
    metrics: list[str] | None = None,
    set: tuple[str, ...] = (),
) -> None:
    """Run every configuration with every seed, and print and save the table of mean ± standard deviation.

    What has ended is not run again and what was broken off goes on from its checkpoint, so the same
    command continues a study. A run that fails is named at the end and does not stop the others.

    Args:
        configs: YAML files of ``lit-fed fit``.
        seeds: Values of ``seed_everything``.
        root: Folder of the study; it gets ``results.csv`` (one row a run) and ``results.md``.
        jobs: Runs at a time, which share the cores. 0: as many as there are cores, at most 8.
        metrics: Columns of the table, by their names in ``summary.json``. None: the test's
            accuracy and loss.
        set: Settings for every run, each as on the command line, such as ``--trainer.max_rounds=2``.

    Raises:
        FileNotFoundError: If a configuration is missing.
        SystemExit: With code 1, after the table, if a run failed.
    """
    if missing := [str(c) for c in configs if not c.is_file()]:
        raise FileNotFoundError(
            f"`configs` are expected to be files, but there is no {', '.join(missing)}"
        )
    runs = [Run(c, s, root / c.stem / f"seed_{s}") for c in configs for s in seeds]
    cores = os.cpu_count() or 1
    jobs = jobs or min(cores, 8)
    console = Console()
    failed: list[Run] = []
    with Progress(console=console) as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task("runs", total=len(runs))

        def one(run: Run) -> None:
            if run.summary is None and _execute(run, max(1, cores // jobs), set) != 0:
                failed.append(run)
            progress.advance(bar)

        list(pool.map(one, runs))
    table = results_table(runs, metrics or list(METRICS))
    (root / "results.md").write_text(table + "\n", encoding="utf-8")
    _write_csv(root / "results.csv", runs)
    console.print(table, soft_wrap=True, markup=False, highlight=False)
    for run in failed:
        console.print(
            f"failed: {run.config} with seed {run.seed}, see {run.folder / 'log.txt'}",
            soft_wrap=True,
        )
    if failed:
        sys.exit(1)


def results_table(runs: Sequence[Run], metrics: Sequence[str]) -> str:
    """The study's Markdown table: a row for each configuration, mean ± standard deviation over its seeds.

    Args:
        runs: The runs; those without a summary are left out, and the count of seeds says so.
        metrics: Names in the summaries; a run without one is left out of that column.
    """
    header = ["configuration", "seeds", *metrics, "bytes up", "bytes down", "seconds"]
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    for config in dict.fromkeys(run.config for run in runs):
        done = [s for run in runs if run.config == config and (s := run.summary) is not None]
        values = [[s["metrics"].get(m) for s in done] for m in metrics]
        cells = [_mean_and_spread([v for v in column if v is not None]) for column in values]
        cells += [_mean_and_spread([s["bytes"][way] for s in done], 0) for way in ("up", "down")]
        cells += [_mean_and_spread([s["seconds"]["rounds"] for s in done], 1)]
        lines.append("| " + " | ".join([config.stem, str(len(done)), *cells]) + " |")
    return "\n".join(lines)


def _mean_and_spread(values: Sequence[float], digits: int = 4) -> str:
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):,.{digits}f}"
    # the sample's standard deviation: seeds are a sample of the runs there could be
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{mean} ± {spread:,.{digits}f}" if spread else mean


def _execute(run: Run, threads: int, settings: Sequence[str]) -> int:
    """Run or go on in a process of its own; its output goes to ``log.txt``."""
    run.folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "lit_fed", "fit", "--config", str(run.config)]
    command += [f"--seed_everything={run.seed}", f"--trainer.default_root_dir={run.folder}"]
    if any(run.folder.glob("checkpoints/round=*")):
        command.append("--ckpt_path=last")
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with (run.folder / "log.txt").open("a", encoding="utf-8") as log:
        child = subprocess.run(
            [*command, *settings],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        )
    return child.returncode


def _write_csv(path: Path, runs: Sequence[Run]) -> None:
    done = [(run, s) for run in runs if (s := run.summary) is not None]
    names = list(dict.fromkeys(name for _, s in done for name in s["metrics"]))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["configuration", "seed", *names, "bytes/up", "bytes/down", "seconds"])
        for run, s in done:
            values = [s["metrics"].get(name) for name in names]
            traffic = [s["bytes"]["up"], s["bytes"]["down"], s["seconds"]["rounds"]]
            writer.writerow([run.config.stem, run.seed, *values, *traffic])


def main() -> None:
    """The command ``lit-fed-study``."""
    from jsonargparse import auto_cli

    try:
        auto_cli(study, as_positional=False)
    except OSError as error:
        sys.exit(f"lit-fed-study: error: {error}")


if __name__ == "__main__":
    main()
