"""Time and memory of the server's part of a round, by aggregation rule.

``python -m pytest -m benchmark -s tests/benchmarks/test_server.py``. Sixteen clients of a LoRA of rank 16 on all linear
layers of Llama-3.2-1B (11.3 M values, 45 MB each), and 1,000 clients of a small one whose uploads lie in files.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
RULES = (
    "WeightedAverage",
    "FedAdam",
    "FFALoRA",
    "RoLoRA",
    "FlexLoRA",
    "FLoRA",
    "FedExLoRA",
    "NormClipping",
    "CoordinateMedian",
    "TrimmedMean",
    "MultiKrum",
    "GeometricMedian",
    "FLAME",
)
# Rules that go through the clients tensor by tensor; the others put clients' tensors beside each other.
STREAMING = ("WeightedAverage", "FedAdam", "FFALoRA", "RoLoRA", "NormClipping")
MB = 2**20

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc"
    ),
]


class Measured(NamedTuple):
    """What one process has measured.

    Attributes:
        seconds: Of an aggregation.
        measured: With what is measured of its result, such as LoRA's distance.
        up: Bytes of an upload.
        down: Bytes of the broadcast.
        coming: By how many bytes the process grew while uploads came.
        combining: By how many it grew while they were aggregated.
        measuring: By how many it grew while they were aggregated and the result was measured.
    """

    seconds: float
    measured: float
    up: int
    down: int
    coming: int
    combining: int
    measuring: int


def measured(rule: str, clients: int, shape: str, repeats: int, memory: str) -> Measured:
    words = (rule, str(clients), shape, str(repeats), memory)
    command = [sys.executable, "-m", "tests.benchmarks.server_of_rules", *words]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    line = next(line for line in child.stdout.splitlines() if line.startswith("RESULT"))
    alone, whole, *sizes = line.split()[1:]
    return Measured(float(alone), float(whole), *map(int, sizes))


def test_time_at_sixteen_clients_of_a_1b_model() -> None:
    print("\n| rule | s | s with distance | MB up | MB broadcast | MB aggregating | MB measuring |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for rule in RULES:
        one = measured(rule, 16, "1b", 3, "none")
        sizes = (one.up, one.down, one.combining, one.measuring)
        print(
            f"| {rule} | {one.seconds:.2f} | {one.measured:.2f} |"
            + "".join(f" {size / 1e6:.0f} |" for size in sizes)
        )


def test_memory_at_a_thousand_clients() -> None:
    """With uploads in files a round of many clients takes no more memory than one of few, where the rule streams."""
    print("\n| rule | clients | uploads | s | MB while uploads come | MB while aggregating |")
    print("| --- | --- | --- | --- | --- | --- |")
    grown: dict[str, float] = {}
    for rule in RULES:
        rises = {}
        for clients, memory in ((100, "8"), (1000, "8")):
            one = measured(rule, clients, "small", 1, memory)
            rises[clients] = one.coming + one.combining
            print(
                f"| {rule} | {clients} | {clients * one.up / MB:.0f} MB, 8 in memory | {one.seconds:.2f} | "
                f"{one.coming / MB:.0f} | {one.combining / MB:.0f} |"
            )
        grown[rule] = (rises[1000] - rises[100]) / (900 * one.up)
    print("\nof a further client's upload stays in memory: ", end="")
    print(", ".join(f"{rule} {share:.3f}" for rule, share in grown.items()))
    for rule in STREAMING:
        assert grown[rule] < 0.1, rule  # about 1 kB for each tensor's object
