"""What the trainer costs beside a bare PyTorch loop that does the same work, in one process, by turns."""

import statistics
import time
from pathlib import Path

import pytest

from tests.benchmarks.work import BareLoop, Marks, data, method, save_model, tokens_of, trainer

CLIENTS, ROUNDS, TURNS, LIMIT = 16, 1, 7, 1.05


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_the_trainer_costs_little_beside_a_bare_loop(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model")
    module = method(folder)
    bare = BareLoop(folder, tokens_of(module, CLIENTS))
    datamodule = data(CLIENTS)

    def bare_seconds(turn: int) -> float:
        started = time.perf_counter()
        for number in range(ROUNDS):
            bare.round(turn * ROUNDS + number)
        return time.perf_counter() - started

    def trainer_seconds(turn: int) -> float:
        """From the first round's start to the last one's end, checkpoints and event files included."""
        marks: list[float] = []
        callback = Marks(
            lambda: marks.append(time.perf_counter()), lambda: marks.append(time.perf_counter())
        )
        trainer(tmp_path / f"run{turn}", ROUNDS, callbacks=[callback]).fit(module, datamodule)
        return marks[1] - marks[0]

    bare_seconds(0), trainer_seconds(0)  # warm up both
    pairs = [(bare_seconds(t), trainer_seconds(t)) for t in range(1, TURNS + 1)]
    ratios = [b / a for a, b in pairs]
    ratio = statistics.median(ratios)
    print(
        f"\n{CLIENTS} clients x 8 steps x batch 4 x 64 tokens, {TURNS} turns: bare loop "
        f"{statistics.median(a for a, _ in pairs):.2f} s, trainer {statistics.median(b for _, b in pairs):.2f} s a "
        f"round; ratio median {ratio:.3f}, of all turns {min(ratios):.3f} to {max(ratios):.3f}"
    )
    assert ratio <= LIMIT
