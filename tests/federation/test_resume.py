import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from lightning.pytorch import Callback

from lit_fed.federation import last_checkpoint
from tests.federation.killed_run import INSTANTS
from tests.federation.toy import toy_data, toy_module, toy_trainer, without_times

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def uninterrupted(toy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    trainer = toy_trainer(tmp_path_factory.mktemp("whole") / "run")
    trainer.fit(toy_module(toy_model), toy_data())
    return trainer


def adapter(trainer: Any) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(trainer.log_dir / "adapter" / "adapter_model.safetensors")


def assert_same_run(trainer: Any, other: Any) -> None:
    """Bit for bit: the adapter, every metric of every round, every byte counted."""
    ours, theirs = adapter(trainer), adapter(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert without_times(trainer.federation.history) == without_times(other.federation.history)
    assert trainer.federation.ledger == other.federation.ledger
    assert trainer.final_metrics == other.final_metrics


@pytest.mark.parametrize(
    "instant",
    [
        pytest.param(one, marks=() if one == "client" else pytest.mark.slow, id=one)
        for one in INSTANTS
    ],
)
def test_a_run_killed_at_any_instant_goes_on_bit_for_bit(
    instant: str, toy_model: Path, tmp_path: Path, uninterrupted: Any
) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.federation.killed_run",
        instant,
        str(toy_model),
        str(tmp_path / "run"),
    ]
    child = subprocess.run(
        command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert last_checkpoint(tmp_path / "run").name == "round=0001"

    trainer = toy_trainer(tmp_path / "run")
    trainer.fit(toy_module(toy_model), toy_data(), ckpt_path="last")
    assert_same_run(trainer, uninterrupted)
    csv = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert len(csv) == 1 + trainer.max_rounds
    assert not list((tmp_path / "run" / "checkpoints").glob(".writing-*"))


def test_the_same_seed_gives_the_same_run_and_another_does_not(
    toy_model: Path, tmp_path: Path, uninterrupted: Any
) -> None:
    again = toy_trainer(tmp_path / "again")
    again.fit(toy_module(toy_model), toy_data())
    assert_same_run(again, uninterrupted)
    other = toy_trainer(tmp_path / "other", seed=1)
    other.fit(toy_module(toy_model), toy_data())
    assert without_times(other.federation.history) != without_times(
        uninterrupted.federation.history
    )


def test_a_longer_run_starts_like_a_shorter_one(
    toy_model: Path, tmp_path: Path, uninterrupted: Any
) -> None:
    short = toy_trainer(tmp_path / "run", max_rounds=2)
    short.fit(toy_module(toy_model), toy_data())
    longer = toy_trainer(tmp_path / "run", max_rounds=3)
    longer.fit(toy_module(toy_model), toy_data(), ckpt_path="last")
    assert_same_run(longer, uninterrupted)


def test_optimizer_moments_are_kept_when_asked_for(toy_model: Path, tmp_path: Path) -> None:
    def run(folder: str, rounds: int, ckpt_path: str | None = None) -> Any:
        trainer = toy_trainer(tmp_path / folder, max_rounds=rounds, keep_optimizer_state=True)
        trainer.fit(toy_module(toy_model), toy_data(), ckpt_path=ckpt_path)
        return trainer

    whole = run("whole", 3)
    run("parts", 2)
    assert_same_run(run("parts", 3, "last"), whole)
    state = next(iter(whole.federation.clients.values()))
    steps = next(v for k, v in state.optimizer.tensors.items() if k.endswith("/step"))
    assert steps.item() == state.steps  # Adam's own count went on across rounds


class Interrupt(Callback):
    def on_client_end(self, trainer: Any, module: Any, update: Any) -> None:
        if trainer.current_round == 2:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_cleanly_with_a_checkpoint(
    toy_model: Path, tmp_path: Path, uninterrupted: Any
) -> None:
    trainer = toy_trainer(tmp_path / "run", callbacks=[Interrupt()])
    with pytest.warns(UserWarning, match="interrupted after 2 finished rounds"):
        trainer.fit(toy_module(toy_model), toy_data())
    assert trainer.interrupted
    assert last_checkpoint(tmp_path / "run").name == "round=0002"
    resumed = toy_trainer(tmp_path / "run")
    resumed.fit(toy_module(toy_model), toy_data(), ckpt_path="last")
    assert_same_run(resumed, uninterrupted)


def test_a_finished_run_is_not_overwritten(toy_model: Path, tmp_path: Path) -> None:
    toy_trainer(tmp_path / "run", max_rounds=1).fit(toy_module(toy_model), toy_data())
    with pytest.raises(
        FileExistsError,
        match=r"`trainer.default_root_dir` is expected to be a folder without a run",
    ):
        toy_trainer(tmp_path / "run", max_rounds=1).fit(toy_module(toy_model), toy_data())


def test_last_without_a_checkpoint_starts_anew(toy_model: Path, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path / "run", max_rounds=1)
    with pytest.warns(UserWarning, match="`ckpt_path` is 'last', but .*run has no checkpoint yet"):
        trainer.fit(toy_module(toy_model), toy_data(), ckpt_path="last")
    assert trainer.current_round == 1


def test_going_on_from_an_older_round_leaves_the_later_ones_alone(
    toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = toy_trainer(tmp_path, default_root_dir=None, max_rounds=3)
    first.fit(toy_module(toy_model), toy_data())
    older = first.log_dir / "checkpoints" / "round=0002"
    branch = toy_trainer(tmp_path, default_root_dir=None, max_rounds=3)
    branch.fit(toy_module(toy_model), toy_data(), ckpt_path=str(older))
    assert branch.log_dir != first.log_dir
    assert last_checkpoint(first.log_dir).name == "round=0003"
    assert_same_run(branch, first)
