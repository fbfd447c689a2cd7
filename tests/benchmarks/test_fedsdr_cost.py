"""What a step of FedSDR costs beside one of LoRA-FedAvg on the same tokens, in one process, by turns."""

import contextlib
import io
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from lightning import seed_everything
from peft import LoraConfig

from lit_fed import FedAvg, FederatedModule, FederatedTrainer, FedSDR, Payload
from lit_fed.backbones import CausalLM
from lit_fed.methods.rewriting import SelfDistillation
from tests.benchmarks import work

TURNS, BOUND = 9, 1.15
TARGETS = {"q and v": ["q_proj", "v_proj"], "all linear layers": "all-linear"}


def fedavg(backbone: CausalLM) -> FederatedModule:
    return FedAvg(backbone, optimizer=work.adamw)


class Unchanged(SelfDistillation):
    """Leaves the rows as they are, so that both methods train on the same tokens."""

    def check(self, module: FederatedModule) -> None:
        """Nothing is needed."""

    def prepare(self, module: FederatedModule, rows: Dataset) -> Payload:
        return Payload()


def fedsdr(backbone: CausalLM) -> FederatedModule:
    """Half of the steps in each stage."""
    half = work.STEPS // 2
    return FedSDR(
        backbone,
        rewriting=Unchanged(),
        optimizer=work.adamw,
        private_steps=half,
        shared_steps=half,
    )


def federation(
    method: Callable[[CausalLM], FederatedModule], folder: Path, root: Path, targets: object
) -> FederatedTrainer:
    """A federation of one client after round 0."""
    seed_everything(0, verbose=False)
    peft = LoraConfig(r=8, lora_alpha=16, target_modules=targets)  # type: ignore[arg-type]
    module = method(CausalLM(str(folder), peft=peft))
    trainer = work.trainer(root, 1, loggers=False, enable_checkpointing=False, test_at_end=False)
    with contextlib.redirect_stdout(io.StringIO()):
        trainer.fit(module, work.data(1))
    return trainer


@pytest.mark.benchmark
@pytest.mark.timeout(900)
def test_what_a_step_of_fedsdr_costs_beside_fedavg(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = work.save_model(tmp_path / "model")
    runs = {
        (name, method.__name__): federation(
            method, folder, tmp_path / name / method.__name__, targets
        )
        for name, targets in TARGETS.items()
        for method in (fedavg, fedsdr)
    }
    turns = [{key: work.seconds_of_a_round(run) for key, run in runs.items()} for _ in range(TURNS)]
    torch.set_num_threads(threads)
    missed = {}
    for name in TARGETS:
        ratios = [turn[name, "fedsdr"] / turn[name, "fedavg"] for turn in turns]
        median = statistics.median(ratios)
        base = statistics.median(turn[name, "fedavg"] for turn in turns) / work.STEPS
        print(
            f"\nLoRA on {name}: FedAvg {1e3 * base:.0f} ms a step; FedSDR {median:.3f} times that"
        )
        print(f"  ({min(ratios):.3f} to {max(ratios):.3f} in {TURNS} turns)")
        if median > BOUND:
            missed[name] = median
    assert not missed, f"above {BOUND}: {missed}"
