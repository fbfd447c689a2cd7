"""A consensus on many clients' answers, and the memory of the process that makes it.

``python -m tests.benchmarks.consensus_of_clients CLIENTS PROMPTS DIFFERENT SELECTOR``: prints ``RESULT``, the bytes of
the process before the answers, with the answers and at most, and the seconds of the consensus.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from lit_fed.methods.semantic_consensus import Ballots, ClusterMedoid, DawidSkene, Selector, bounded

BYTES = 200
SELECTORS: dict[str, type[Selector]] = {"ClusterMedoid": ClusterMedoid, "DawidSkene": DawidSkene}


def answers_to(prompts: int, different: int, length: int = BYTES) -> list[list[str]]:
    """``different`` answers of ``length`` characters to each prompt, half of the words of each those of the first."""
    draw = random.Random(0)
    words = ["".join(draw.choices("etaoinshrdlu", k=draw.randint(2, 9))) for _ in range(3000)]

    def text(beginning: str) -> str:
        return (beginning + " " + " ".join(draw.choices(words, k=length // 3)))[:length]

    made = []
    for _ in range(prompts):
        first = text("")
        made.append([first, *(text(first[: length // 2]) for _ in range(different - 1))])
    return made


def rows(clients: int, texts: list[list[str]]) -> Iterator[tuple[str, ...]]:
    """What each client says, as new strings, as they come from a payload."""
    draw = random.Random(1)
    for _ in range(clients):
        yield tuple(bounded(" " + draw.choice(own), 1000) for own in texts)


def main(clients: int, prompts: int, different: int, selector: str) -> None:
    texts = answers_to(prompts, different)
    before = _resident()
    votes = Ballots(
        tuple(map(str, range(clients))),
        tuple(rows(clients, texts)),
        torch.ones(clients, prompts, dtype=torch.float64),
    )
    held = _resident()
    started = time.process_time()
    found = SELECTORS[selector]()(votes, seed=0)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("RESULT", before, held, peak, seconds, found.metrics["abstain_rate"])


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), selector=sys.argv[4])
