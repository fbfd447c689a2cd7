import subprocess
import sys

import pytest

from lit_fed.federation.heap import HeapTrimmer, _libc

SCRIPT = """
import sys, torch
from lit_fed.federation.heap import HeapTrimmer

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

kept = []
blocks = [torch.ones(25_000) for _ in range(2000)]  # below the size that malloc maps on its own
kept = blocks[::50]
before = resident()
del blocks
trimmer = HeapTrimmer(every=100)
trimmer.keep(99)
between = resident()
trimmer.keep(1)
print(before, between, resident())
"""


@pytest.mark.slow
@pytest.mark.skipif(_libc() is None, reason="needs glibc")
def test_gaps_go_back_when_enough_has_been_kept() -> None:
    child = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    before, between, after = (int(n) for n in child.stdout.split())
    assert before - between < 50e6 < 150e6 < before - after


def test_it_is_no_error_where_there_is_nothing_to_trim() -> None:
    HeapTrimmer(every=1).keep(5)
