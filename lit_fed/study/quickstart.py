"""A newcomer's first run: each client alone, the federation, and all data in one place, side by side."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lit_fed.callbacks.run_summary import CURVES_ADDRESS
from lit_fed.configurations import find_configuration
from lit_fed.study.execution import execute
from lit_fed.study.run import Run
from lit_fed.study.table import mean_and_spread

_FEDERATION = "lora_fedavg"
_ROWS = {
    "local_only": "each client alone",
    _FEDERATION: "federated",
    "centralized": "all data in one place",
}
_ACCURACY, _CLIENTS = "test/accuracy", "clients/test/accuracy"


def quickstart(
    seeds: tuple[int, ...] = (0, 1, 2),
    root: Path = Path("runs/quickstart"),
    jobs: int = 0,
    settings: tuple[str, ...] = (),
) -> None:
    """Run three packaged configurations with every seed, and print what each reaches on the same test rows.

    What has ended is not run again, and what was broken off goes on from its checkpoint.

    Args:
        seeds: Seeds of the training rows, the weights and the order of training.
        root: Where the runs are, ``<root>/<configuration>/seed_<seed>``.
        jobs: Runs at a time, which share the cores. 0: as many as there are cores, at most 8.
        settings: Settings for every run, each as on the command line, such as ``--trainer.max_rounds=2``.

    Raises:
        FileExistsError: If ``root`` holds runs with other settings.
        SystemExit: With code 1, if a run failed.
    """
    console = Console()
    runs = [
        Run(find_configuration(name), seed, root / name / f"seed_{seed}", settings=settings)
        for seed in seeds
        for name in _ROWS
    ]
    for run in runs:
        run.check()
    failed = execute(runs, jobs, console)
    if failed:
        sys.exit(f"lit-fed: error: a run failed, see {failed[0].folder / 'log.txt'}")
    console.print(accuracy_table(runs))
    federation = root / _FEDERATION / f"seed_{seeds[0]}"
    checkpoint = sorted((federation / "checkpoints").glob("round=*"))[-1]
    for name, text in {
        "TensorBoard": f"tensorboard --logdir {root}  (curves: {CURVES_ADDRESS})",
        "checkpoint": str(checkpoint),
        "adapter": str(federation / "adapter"),
        "next": "your own data: lit-fed init my_federation, and the README's section on it",
    }.items():
        # Paths are copied from here, so they are neither wrapped nor coloured.
        console.print(f"{name:<12} {text}", soft_wrap=True, markup=False, highlight=False)


def accuracy_table(runs: list[Run]) -> Table:
    """Test accuracy of each arm, mean ± sample standard deviation over the seeds, and of the worst client.

    Args:
        runs: The finished runs; of a method without a global model the clients' mean counts.
    """
    seeds = len({run.seed for run in runs})
    table = Table(
        title=f"Test accuracy, {seeds} seed{'s' * (seeds > 1)}; a guess is right in 1 of 6",
        title_justify="left",
    )
    table.add_column("")
    for title in ("test accuracy", "worst client", "unseen names"):
        table.add_column(title, justify="right")
    for name, title in _ROWS.items():
        found = [s["metrics"] for run in runs if run.name == name and (s := run.summary)]

        def cell(*names: str, found: list[dict[str, float]] = found) -> str:
            """The first of the metrics that a run has."""
            values = [next((m[n] for n in names if n in m), None) for m in found]
            return mean_and_spread([value for value in values if value is not None], digits=3)

        table.add_row(
            title,
            cell(_ACCURACY, f"{_CLIENTS}/mean"),
            cell(f"{_CLIENTS}/min"),
            cell(f"{_ACCURACY}/unseen_names", f"{_CLIENTS}/unseen_names/mean"),
        )
    return table
