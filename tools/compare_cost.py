"""Processor time of two checkouts by turns: start-up, and a federation of many small rounds.

``python tools/compare_cost.py --before ../before --after . --turns 3`` prints the ratio of each turn's pair.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

FIT = (
    "fit",
    "--config=configs/lora_fedavg.yaml",
    "--trainer.max_rounds=4",
    "--trainer.local_steps=2",
    "--trainer.limit_val_batches=1",
    "--trainer.test_at_end=false",
    "--trainer.enable_progress_bar=false",
)
COMMANDS = {"start-up": ("--help",), "rounds": FIT}


def seconds(checkout: Path, arguments: tuple[str, ...]) -> float:
    """User and system seconds of one command in a checkout, its whole process."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "lit_fed", *arguments]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, cwd=checkout, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Compare two checkouts."""
    parser = argparse.ArgumentParser(description="Compare the processor time of two checkouts.")
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=3)
    given = parser.parse_args()
    for name, arguments in COMMANDS.items():
        ratios = []
        for _ in range(given.turns):
            spent = []
            for checkout in (given.before.resolve(), given.after.resolve()):
                with tempfile.TemporaryDirectory() as root:
                    run = f"--trainer.default_root_dir={root}/run"
                    own = (*arguments, run) if name == "rounds" else arguments
                    spent.append(seconds(checkout, own))
            ratios.append(spent[1] / spent[0])
        middle = statistics.median(ratios)
        print(f"{name}: after / before {middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
