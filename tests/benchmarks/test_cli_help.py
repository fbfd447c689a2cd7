"""How long ``lit-fed --help`` takes beside a bare LightningCLI's."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

TURNS, LIMIT = 7, 1.3


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *command, "--help"], check=True, capture_output=True)
    return time.perf_counter() - started


@pytest.mark.benchmark
def test_help_is_as_quick_as_lightnings() -> None:
    bare, ours = [str(Path(__file__).with_name("bare_cli.py"))], ["-m", "lit_fed"]
    seconds(bare), seconds(ours)
    pairs = [(seconds(bare), seconds(ours)) for _ in range(TURNS)]
    ratios = [b / a for a, b in pairs]
    ratio = statistics.median(ratios)
    print(
        f"\nLightningCLI --help {statistics.median(a for a, _ in pairs):.2f} s, lit-fed --help "
        f"{statistics.median(b for _, b in pairs):.2f} s; "
        f"ratio median {ratio:.3f}, {min(ratios):.3f} to {max(ratios):.3f}"
    )
    assert ratio <= LIMIT
