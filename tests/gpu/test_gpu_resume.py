"""Killed and resumed on a card, bit for bit under deterministic algorithms."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lit_fed import FederatedTrainer
from lit_fed.federation import last_checkpoint
from tests.federation.toy import toy_data, toy_module, toy_trainer, without_times

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]


def fit(
    accelerator: str, model: Path, root: Path, ckpt_path: str | None = None
) -> FederatedTrainer:
    """Three rounds with dropout, whose masks the device draws, and with moments that last."""
    settings = {"accelerator": accelerator, "devices": 1, "keep_optimizer_state": True}
    trainer = toy_trainer(root, **settings)
    trainer.fit(toy_module(model), toy_data(), ckpt_path=ckpt_path)
    return trainer


@pytest.fixture(scope="module")
def uninterrupted(
    accelerator: str,
    deterministic: None,
    toy_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> FederatedTrainer:
    return fit(accelerator, toy_model, tmp_path_factory.mktemp("whole") / "run")


def adapter(trainer: Any) -> dict[str, torch.Tensor]:
    return load_file(trainer.log_dir / "adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("instant", ["client", "write"])
def test_a_run_killed_in_its_second_round_goes_on_bit_for_bit(
    instant: str,
    accelerator: str,
    toy_model: Path,
    tmp_path: Path,
    uninterrupted: FederatedTrainer,
) -> None:
    words = [accelerator, instant, str(toy_model), str(tmp_path / "run")]
    child = subprocess.run(
        [sys.executable, "-m", "tests.gpu.killed_run", *words],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert last_checkpoint(tmp_path / "run").name == "round=0001"

    resumed = fit(accelerator, toy_model, tmp_path / "run", ckpt_path="last")
    ours, theirs = adapter(resumed), adapter(uninterrupted)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    states = resumed.federation, uninterrupted.federation
    histories = [without_times(state.history) for state in states]
    assert histories[0] == histories[1]
    assert states[0].ledger == states[1].ledger
    assert resumed.final_metrics == uninterrupted.final_metrics
