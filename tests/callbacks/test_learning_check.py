"""What is said of a run that does not learn, and that nothing is said of one that does."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_fed import FedAvg
from lit_fed.callbacks.learning_check import relative_change, validated
from lit_fed.data import FederatedDataModule
from lit_fed.federation import VectorizedClients, last_checkpoint
from lit_fed.federation.sampling import FixedOrderSampler
from lit_fed.payload import Payload
from lit_fed.stage import Stage
from tests.federation.task_sequence import task_data
from tests.federation.toy import toy_backbone, toy_data, toy_rows, toy_trainer


def said(
    model: Path,
    root: Path,
    lr: float,
    warmup: int = 0,
    stages: tuple[Stage, ...] | None = None,
    data: FederatedDataModule | None = None,
    ckpt_path: str | None = None,
    **settings: Any,
) -> list[str]:
    """What a small run says of its learning."""

    def sgd(params: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(params, lr=lr)

    module = FedAvg(toy_backbone(model), optimizer=sgd, warmup_steps=warmup)
    if stages is not None:
        module.stages = stages
        module.stage = stages[0]
    given: dict[str, Any] = {"max_rounds": 3, "test_at_end": False} | settings
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        toy_trainer(root, **given).fit(module, data or small_data(), ckpt_path=ckpt_path)
    messages = [str(one.message) for one in caught]
    return [one for one in messages if "is planned to take" in one or "nothing is learnt" in one]


def small_data(**settings: Any) -> FederatedDataModule:
    rows = {"train": toy_rows(64, 0), "validation": toy_rows(24, 1), "test": None}
    return toy_data(**rows | settings)


EXECUTIONS: dict[str, Callable[[], Any]] = {
    "sequential": lambda: None,
    "vectorized": lambda: VectorizedClients(2),
}


@pytest.fixture(params=EXECUTIONS)
def execution(request: pytest.FixtureRequest) -> Any:
    return EXECUTIONS[request.param]()


def test_a_run_that_learns_is_told_nothing(toy_model: Path, tmp_path: Path, execution: Any) -> None:
    assert said(toy_model, tmp_path, lr=0.1, execution=execution) == []


def test_a_slow_run_is_told_nothing(toy_model: Path, tmp_path: Path) -> None:
    assert said(toy_model, tmp_path, lr=1e-2, warmup=6, local_steps=2, clients_per_round=4) == []


def test_weights_that_stand_are_said_once(toy_model: Path, tmp_path: Path, execution: Any) -> None:
    (message,) = said(toy_model, tmp_path, lr=0.0, execution=execution)
    assert message.startswith("round 1 has left the weights that clients exchange as they were: ")


def test_metrics_that_stand_are_said_once(toy_model: Path, tmp_path: Path) -> None:
    (message,) = said(toy_model, tmp_path, lr=1e-5, check_val_every_n_rounds=2, max_rounds=6)
    assert re.match(
        r"rounds 2 and 4 came to the same: val/loss 0\.\d{4}, val/accuracy 0\.", message
    )


def test_without_a_validation_the_weights_are_compared(toy_model: Path, tmp_path: Path) -> None:
    data = small_data(validation=None)
    assert said(toy_model, tmp_path / "stands", 0.0, data=data)
    assert said(toy_model, tmp_path / "moves", 1e-4, data=small_data(validation=None)) == []


def test_a_run_that_has_moved_may_stand_later_and_a_resumed_one_is_not_told_again(
    toy_model: Path, tmp_path: Path
) -> None:
    assert said(toy_model, tmp_path / "a", lr=0.1, max_rounds=2) == []
    assert last_checkpoint(tmp_path / "a") is not None
    # as where a schedule has come to its end
    meant = {"ckpt_path": "last", "resume_with_changes": True}
    assert said(toy_model, tmp_path / "a", lr=0.0, max_rounds=4, **meant) == []
    assert len(said(toy_model, tmp_path / "b", lr=0.0, max_rounds=1)) == 1
    assert said(toy_model, tmp_path / "b", lr=0.0, max_rounds=2, ckpt_path="last") == []


def test_a_round_that_no_client_finishes_is_no_standstill(toy_model: Path, tmp_path: Path) -> None:
    class Fails(FedAvg):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise ValueError(f"out of order at {self.own_step}, {batch['index'].tolist()}")

    trainer = toy_trainer(tmp_path, max_rounds=3, min_clients=0, test_at_end=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(Fails(toy_backbone(toy_model), warmup_steps=0), small_data())
    assert not [one for one in caught if "nothing is learnt" in str(one.message)]


# ---------------------------------------------------------------- warm-up


def numbers(messages: Sequence[str]) -> list[tuple[str, int, int]]:
    """Of each message on a warm-up: its setting, its steps and the planned ones."""
    pattern = r"`(.*)` is (\d+), but in \d+ rounds no client is planned to take more than (\d+) "
    found = [re.match(pattern, one) for one in messages]
    return [(one[1], int(one[2]), int(one[3])) for one in found if one]


def most_steps(root: Path) -> int:
    state = json.loads((last_checkpoint(root) / "state.json").read_text())
    return max(client["steps"] for client in state["clients"].values())


@pytest.mark.parametrize(
    "settings",
    [
        {"local_epochs": 2, "accumulate_grad_batches": 2},
        {"local_steps": 3},
        {"limit_train_batches": 1},
    ],
)
def test_a_warmup_that_never_ends_is_said_with_both_numbers(
    toy_model: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    settings |= {"clients_per_round": 1.0, "max_rounds": 2}
    messages = said(toy_model, tmp_path / "long", lr=1.0, warmup=500, **settings)
    taken = most_steps(tmp_path / "long")
    assert numbers(messages) == [("model.warmup_steps", 500, taken)]
    if "local_steps" in settings:
        assert said(toy_model, tmp_path / "short", lr=1.0, warmup=taken, **settings) == []


def test_clients_are_expected_in_their_share_of_the_rounds(toy_model: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"clients_per_round": 2, "max_rounds": 4, "local_steps": 2}
    settings["sampler"] = FixedOrderSampler()
    messages = said(toy_model, tmp_path, lr=1.0, warmup=5, **settings)
    assert numbers(messages) == [("model.warmup_steps", 5, most_steps(tmp_path))]


def test_stages_have_warmups_of_their_own(toy_model: Path, tmp_path: Path) -> None:
    stages = (
        Stage("first", warmup_steps=9, local_steps=2),
        Stage("second", local_steps=4),
        Stage("third", warmup_steps=0),
    )
    messages = said(
        toy_model, tmp_path, lr=1.0, warmup=12, stages=stages, max_rounds=3, clients_per_round=4
    )
    assert numbers(messages) == [("warmup_steps of stage 'first'", 9, 6)]


def test_the_steps_of_all_tasks_count(toy_model: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"rounds_per_task": 1, "clients_per_round": 1.0, "data": task_data()}
    messages = said(toy_model, tmp_path, lr=1.0, warmup=99, **settings)
    assert numbers(messages) == [("model.warmup_steps", 99, most_steps(tmp_path))]


@pytest.mark.parametrize("hook", ["configure_optimizers", "local_data"])
def test_what_a_method_does_by_itself_is_not_guessed(
    toy_model: Path, tmp_path: Path, hook: str
) -> None:
    original = getattr(FedAvg, hook)
    own = type("Own", (FedAvg,), {hook: lambda self, *given: original(self, *given)})
    module = own(toy_backbone(toy_model), warmup_steps=500)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        toy_trainer(tmp_path, max_rounds=1, test_at_end=False).fit(module, small_data())
    assert not [one for one in caught if "is planned to take" in str(one.message)]


# ---------------------------------------------------------------- what is compared


def test_relative_change_is_that_of_all_weights_together() -> None:
    old = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0]), "count": torch.tensor([7])}
    new = {"a": torch.tensor([3.0]), "b": torch.tensor([4.5]), "count": torch.tensor([9])}
    assert relative_change(Payload(old), Payload(new)) == pytest.approx(0.1)
    zero, one = Payload({"a": torch.zeros(2)}), Payload({"a": torch.ones(2)})
    assert relative_change(zero, zero) == 0
    assert relative_change(zero, one) == float("inf")
    assert relative_change(zero, Payload({"a": torch.zeros(3)})) is None
    assert relative_change(Payload(), Payload()) is None


def test_clients_means_are_taken_where_there_is_no_global_model() -> None:
    row = {
        "clients/val/loss/mean": 0.5,
        "clients/val/loss/std": 0.1,
        "clients/train/loss/mean": 2.0,
    }
    assert validated(row) == {"clients/val/loss/mean": 0.5}
