"""What several clients at once cost beside a bare PyTorch loop that does the same work, by turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lit_fed.federation import ClientExecution, SequentialClients, VectorizedClients
from tests.benchmarks import work
from tests.benchmarks.work import BareLoop, Marks, method, save_model, tokens_of, trainer

CLIENTS, TURNS, LIMIT = 16, 3, 0.85


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_clients_at_once_beside_a_bare_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 clients x 8 steps x batch 2 x 64 tokens on one thread; seconds of that thread's work.

    Time that other processes take is left out. Each turn is a run of its own, in which the clients'
    modules are made anew.
    """
    monkeypatch.setattr(work, "BATCH", 2)
    folder = save_model(tmp_path / "model")
    module = method(folder)
    bare = BareLoop(folder, tokens_of(module, CLIENTS, work.BATCH * work.STEPS))
    data = work.data(CLIENTS, work.BATCH * work.STEPS)

    def rounds(execution: ClientExecution, name: str) -> Callable[[int], float]:
        def seconds(turn: int) -> float:
            marks: list[float] = []
            callback = Marks(
                lambda: marks.append(time.process_time()),
                lambda: marks.append(time.process_time()),
            )
            trainer(tmp_path / f"{name}{turn}", 1, callbacks=[callback], execution=execution).fit(
                module, data
            )
            return marks[1] - marks[0]

        return seconds

    def bare_seconds(turn: int) -> float:
        started = time.process_time()
        bare.round(turn)
        return time.process_time() - started

    sides = {
        "sequential": rounds(SequentialClients(), "sequential"),
        "4 at once": rounds(VectorizedClients(4), "four"),
        "8 at once": rounds(VectorizedClients(8), "eight"),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        bare_seconds(0), sides["4 at once"](0)  # warm up
        ratios: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(1, TURNS + 1):
            reference = bare_seconds(turn)
            for name, seconds in sides.items():
                ratios[name].append(seconds(turn) / reference)
            print(turn, {name: round(found[-1], 3) for name, found in ratios.items()})
    finally:
        torch.set_num_threads(threads)
    for name, found in ratios.items():
        print(
            f"\n{CLIENTS} clients x 8 steps x batch 2 x 64 tokens, one thread, {TURNS} turns: {name} / "
            f"bare loop median {statistics.median(found):.3f}, {min(found):.3f} to {max(found):.3f}"
        )
    missed = [
        name for name in ("4 at once", "8 at once") if statistics.median(ratios[name]) > LIMIT
    ]
    assert not missed, f"above {LIMIT}: {missed}"
