"""How many clients run at once where the execution measures it by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from lit_fed import DDG, FederatedModule
from lit_fed.federation import SequentialClients, VectorizedClients
from lit_fed.federation.client.results import ClientRound
from lit_fed.federation.execution.vectorized import vectorized_clients
from lit_fed.federation.execution.vectorized.runner import VectorizedRunner
from tests.federation.execution.agreement import adamw, assert_close, run
from tests.federation.toy import save_toy_model, toy_backbone, toy_data, toy_rows


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
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[int]]:
    """Lets a row of clients together take so much of the time of one alone; tells how many there were each time."""

    def goes(ratio: float) -> list[int]:
        groups: list[int] = []

        def timed(
            runner: VectorizedRunner, group: Sequence[ClientRound]
        ) -> tuple[list[Any], float]:
            groups.append(len(group))
            rows = sum(start.client.num_samples for start in group)
            return real(runner, group)[0], rows * (1.0 if len(group) == 1 else ratio)

        monkeypatch.setattr(vectorized_clients, "_timed", timed)
        return groups

    real = vectorized_clients._timed
    return goes


@pytest.mark.parametrize(
    ("ratio", "groups"),
    # of four clients in three rounds; the first alone is not counted, the first two together are a trial
    [(0.97, [1, 1, 2, 4, 4]), pytest.param(1.05, [1, 1, 2], marks=pytest.mark.slow)],
)
def test_the_faster_way_is_taken_and_the_result_is_the_same(
    ratio: float, groups: list[int], clock: Any, model: Path, tmp_path: Path
) -> None:
    trained = clock(ratio)
    states, batches = [], []
    for number, execution in enumerate((VectorizedClients(), SequentialClients())):
        torch.manual_seed(0)
        counted = Batches()
        state = run(
            ddg(model),
            data(),
            tmp_path / str(number),
            execution,
            callbacks=[counted],
            max_rounds=3,
        )
        states.append(state)
        batches.append(counted.seen)
        assert not state.failures
    assert trained == groups
    assert_close(states[0].broadcast, states[1].broadcast)
    assert batches[0] == batches[1] > 0  # nothing of the step that warms up is left


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
