"""How many clients run at once where the execution measures it by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from lit_fed import DDG, FederatedModule
from lit_fed.federation import ClientExecution, SequentialClients, VectorizedClients
from lit_fed.federation.execution.vectorized import vectorized_clients
from tests.federation.execution.agreement import adamw, assert_close, run
from tests.federation.toy import save_toy_model, toy_backbone, toy_data, toy_rows, without_times


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy") / "model", width=16)


def data() -> Any:
    rows = {"train": toy_rows(60, 0), "validation": toy_rows(8, 1), "public": toy_rows(6, 3)}
    return toy_data(**rows, test=None, batch_size=5)


def ddg(model: Path) -> FederatedModule:
    """With dropout, a teacher, and public batches that are drawn."""
    return DDG(toy_backbone(model, dropout=0.1), optimizer=adamw, warmup_steps=0)


class Batches(Callback):
    def __init__(self) -> None:
        self.seen = 0

    def on_train_batch_end(self, *args: Any) -> None:
        self.seen += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets steps together take so much of the time of steps one after the other; they are taken all the same."""

    def goes(ratio: float) -> None:
        times = cycle([1.0, ratio])

        def seconds(work: Callable[[], None], device: torch.device) -> float:
            work()
            return next(times)

        monkeypatch.setattr(vectorized_clients, "seconds", seconds)

    return goes


@pytest.mark.parametrize(
    ("ratio", "like"), [(0.97, VectorizedClients(8)), (1.05, SequentialClients())]
)
def test_the_faster_way_is_taken_and_nothing_is_left_of_the_trial(
    ratio: float, like: ClientExecution, clock: Any, model: Path, tmp_path: Path
) -> None:
    clock(ratio)
    states, batches = [], []
    for number, execution in enumerate((VectorizedClients(), like)):
        torch.manual_seed(0)
        counted = Batches()
        state = run(ddg(model), data(), tmp_path / str(number), execution, callbacks=[counted])
        states.append(state)
        batches.append(counted.seen)
        assert not state.failures
    ours, theirs = states
    assert without_times(ours.history) == without_times(theirs.history)
    assert replace(ours, history=[]) == replace(theirs, history=[])
    assert batches[0] == batches[1] > 0


def test_a_run_goes_on_the_other_way(clock: Any, model: Path, tmp_path: Path) -> None:
    whole = run(ddg(model), data(), tmp_path / "whole", SequentialClients())
    for rounds, ratio, path in ((1, 0.5, None), (2, 2.0, "last")):
        clock(ratio)
        settings = {"max_rounds": rounds, "enable_checkpointing": True}
        state = run(ddg(model), data(), tmp_path / "auto", VectorizedClients(), path, **settings)
    assert_close(state.broadcast, whole.broadcast)


def test_a_word_other_than_auto_is_named() -> None:
    with pytest.raises(ValueError, match=r"`trainer.execution.clients_at_once` .* but got 'many'"):
        VectorizedClients("many")  # type: ignore[arg-type]
