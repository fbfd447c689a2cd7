"""Time and memory of the server's part of semantic consensus.

``python -m pytest -m benchmark -s tests/benchmarks/test_consensus.py``.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lit_fed.methods.semantic_consensus import Ballots, ClusterMedoid, HashedNgramEncoder
from tests.benchmarks.consensus_of_clients import SELECTORS, answers_to

ROOT = Path(__file__).parents[2]
CLIENTS, PROMPTS = 50, 1000
BLOCK = 4096
REPEATS = 3
GB = 10**9

pytestmark = [pytest.mark.benchmark, pytest.mark.timeout(1800)]


@pytest.mark.parametrize(("length", "most"), [(200, 1.2), (40, 1.5)])
def test_a_consensus_takes_little_more_than_encoding_its_answers(length: int, most: float) -> None:
    """With the encoder that takes least time, and with answers that are all different.

    Encoding takes as long as answers are long, and the rest, mostly the products of their vectors, as they are many.
    It is a quarter of the whole with 40 characters, and less than a tenth with 200.
    """
    encoding, consensus = seconds(answers_to(PROMPTS, CLIENTS, length))
    assert consensus <= most * encoding


@pytest.mark.parametrize("length", [200, 40])
def test_answers_that_repeat_take_less_than_different_ones(length: int) -> None:
    """Five different ones a prompt are encoded once each; what is left is that of 50, and several times as much."""
    draw = random.Random(0)
    texts = answers_to(PROMPTS, 5, length)
    encoding, consensus = seconds([draw.choices(own, k=CLIENTS) for own in texts])
    _, of_different = seconds(answers_to(PROMPTS, CLIENTS, length))
    assert encoding < consensus <= of_different / 2


def seconds(texts: list[list[str]]) -> tuple[float, float]:
    """Of encoding the answers to each prompt, and of a consensus on them, which are printed."""
    encoder = HashedNgramEncoder()
    encoder.encode(["warm"])
    votes = Ballots(
        tuple(map(str, range(CLIENTS))),
        tuple(zip(*texts, strict=True)),
        torch.ones(CLIENTS, PROMPTS, dtype=torch.float64),
    )
    every = [text for own in texts for text in own]
    encoding = consensus = float("inf")
    for _ in range(REPEATS):  # in turns, and the least of each: a neighbour's work disturbs both
        started = time.process_time()
        for start in range(0, len(every), BLOCK):
            encoder.encode(every[start : start + BLOCK])
        encoding = min(encoding, time.process_time() - started)
        started = time.process_time()
        found = ClusterMedoid(encoder)(votes, seed=0)
        consensus = min(consensus, time.process_time() - started)
    different = sum(len({*own}) for own in texts) / len(texts)
    print(
        f"\n{PROMPTS} prompts, {CLIENTS} clients, {different:.1f} different answers of {len(every[0])} characters: "
        f"encoding {encoding:.2f} s, consensus {consensus:.2f} s, ratio {consensus / encoding:.3f}; "
        f"{found.metrics['clusters']:.1f} clusters a prompt"
    )
    return encoding, consensus


@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc"
)
@pytest.mark.parametrize("selector", SELECTORS)
def test_memory_of_a_thousand_clients_answers(selector: str) -> None:
    """1,000 clients, 1,000 prompts, 200 bytes an answer: 200 MB of text."""
    command = [sys.executable, "-m", "tests.benchmarks.consensus_of_clients"]
    settings = ["1000", "1000", "20", selector]
    child = subprocess.run(
        [*command, *settings], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    line = next(line for line in child.stdout.splitlines() if line.startswith("RESULT"))
    before, held, peak, seconds, abstained = map(float, line.split()[1:])
    print(
        f"\n{selector}: {before / GB:.2f} GB before, {held / GB:.2f} GB with the answers, at most {peak / GB:.2f} GB; "
        f"{seconds:.0f} s; abstained in {abstained:.0%}"
    )
    assert peak <= 2 * GB
