"""How much more memory a further client takes."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.work import save_model

ROOT = Path(__file__).parents[2]
COUNTS = (4, 16, 64)


def peak(clients: int, keep: bool, folder: Path, run: Path) -> tuple[int, int]:
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.memory_of_clients",
        str(clients),
        str(int(keep)),
    ]
    child = subprocess.run(
        [*command, str(folder), str(run)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    line = next(line for line in child.stdout.splitlines() if line.startswith("RESULT"))
    resident, adapter = line.split()[1:]
    return int(resident), int(adapter)


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("keep", "copies"), [(False, 1), (True, 3)], ids=["weights", "weights and moments"]
)
def test_a_client_costs_its_adapter_and_state(tmp_path: Path, keep: bool, copies: int) -> None:
    """Of a client the run holds its upload until it is aggregated and, where asked for, AdamW's two moments."""
    folder = save_model(tmp_path / "model")
    peaks = {}
    for clients in COUNTS:
        peaks[clients], adapter = peak(clients, keep, folder, tmp_path / f"run{clients}")
    growth = {(a, b): (peaks[b] - peaks[a]) / (b - a) for a, b in itertools.pairwise(COUNTS)}
    own = copies * adapter
    for (a, b), each in growth.items():
        print(
            f"\n{a} -> {b} clients: {each / 2**20:.2f} MiB each, "
            f"adapter and state {own / 2**20:.2f} MiB, ratio {each / own:.3f}"
        )
    assert growth[16, 64] <= 1.1 * own
    assert growth[4, 16] <= 1.1 * own
