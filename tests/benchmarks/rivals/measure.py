"""Runs one of the programs as a process of its own, and measures it from outside.

``python -m tests.benchmarks.rivals.measure bare_loop --work C --threads 1`` prints one line of JSON: seconds of the
rounds, seconds of the whole process with its imports, peak megabytes of the process and all its descendants,
and the final loss. A further ``--python`` names the interpreter of the program.

Memory is the sum of the proportional set sizes (PSS), which counts a page that several processes share once; it is
sampled once a second from /proc, which only Linux has.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.rivals import job

ROOT = Path(__file__).parents[3]
INTERVAL = 1.0  # seconds; a sample takes some 8 ms of processor time per process, so no shorter


@dataclass(frozen=True)
class Measurement:
    rounds_s: float
    whole_s: float
    peak_mb: float
    loss: float


def measure(program: str, options: list[str], python: str = sys.executable) -> Measurement:
    """Run ``tests.benchmarks.rivals.<program>`` with ``options`` to its end.

    Raises:
        RuntimeError: If it fails, with the end of what it wrote.
    """
    found = job.parser().parse_known_args(options)[0]
    threads = str(found.threads)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    command = [python, "-m", f"tests.benchmarks.rivals.{program}", *options]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=err)
        whole, peak = _watch(child, started)
        out.seek(0), err.seek(0)
        printed = out.read()
        lines = [line for line in printed.splitlines() if line.startswith('{"rounds_s"')]
        if child.returncode or not lines:
            raise RuntimeError(
                f"{' '.join(command)} ended with {child.returncode}:\n{printed[-2000:]}\n{err.read()[-4000:]}"
            )
    result = json.loads(lines[-1])
    weights = Path(result["weights"])
    # Outside of the measured process, so that no program pays for it.
    loss = job.final_loss(found.work, weights.parent, weights)
    weights.unlink()
    return Measurement(result["rounds_s"], whole, peak, loss)


def initial_loss(work: str, folder: Path) -> float:
    """The loss before the first round."""
    return job.final_loss(work, folder, folder / "initial.safetensors")


def _watch(child: subprocess.Popen[bytes], started: float) -> tuple[float, float]:
    """Seconds until the process ended, and the peak of its tree's memory; none of the tree is left running."""
    peak, seen = 0.0, {}
    try:
        while True:
            tree = _tree(child.pid)
            seen |= tree
            peak = max(peak, sum(map(_megabytes, tree)))
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(INTERVAL)
                return time.perf_counter() - started, peak
    finally:
        for pid, born in seen.items():
            if pid in (table := _processes()) and table[pid][1] == born:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        child.wait()


def _tree(root: int) -> dict[int, str]:
    """The process and its descendants: their ids and when they were born."""
    table = _processes()
    found = {root: table[root][1]} if root in table else {}
    grown = True
    while grown:
        new = {p: born for p, (parent, born) in table.items() if parent in found and p not in found}
        found |= new
        grown = bool(new)
    return found


def _processes() -> dict[int, tuple[int, str]]:
    """Parent and time of birth of every process."""
    table = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                table[int(entry.name)] = (int(fields[1]), fields[19])
    return table


def _megabytes(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("program")
    options.add_argument("--python", default=sys.executable)
    known, others = options.parse_known_args()
    print(json.dumps(asdict(measure(known.program, others, known.python))))
