"""ShardedClients on one card: alone without a group, and by FSDP2 in a group of one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file
from torch.distributed.fsdp import FSDPModule

from lit_fed import FedAvg, FederatedTrainer
from lit_fed.federation import ShardedClients
from lit_fed.federation.execution import process_group
from tests.federation.execution.agreement import sgd
from tests.federation.toy import toy_backbone, toy_data, toy_trainer

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("exact_float32")]


ROUNDING = 1e-6
"""About 10 roundings of a number near 1: one shard adds nothing in another order, but kernels may differ."""


def train(
    accelerator: str, model: Path, root: Path, **settings: Any
) -> tuple[FederatedTrainer, FedAvg]:
    trainer = toy_trainer(root, accelerator=accelerator, devices=1, max_rounds=1, **settings)
    module = FedAvg(toy_backbone(model), optimizer=sgd, warmup_steps=0)
    trainer.fit(module, toy_data())
    return trainer, module


def assert_same_export(root: Path) -> None:
    ours, theirs = (
        load_file(root / name / "adapter" / "adapter_model.safetensors")
        for name in ("sharded", "plain")
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=ROUNDING)
    # These begin as zeros: the runs have learnt something.
    learnt = [float(tensor.abs().max()) for name, tensor in ours.items() if "lora_B" in name]
    assert max(learnt) > 1e-3


@pytest.fixture
def group_of_one(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One process makes a group and shards its model, which ShardedClients spares it otherwise."""
    before = dict(os.environ)
    monkeypatch.setattr(process_group, "_is_alone", lambda strategy: False)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


def test_one_process_holds_the_whole_model_and_exports_the_same_adapter(
    accelerator: str, sober_model: Path, tmp_path: Path
) -> None:
    """Nothing is sharded over one process: what is seen here is the strategy's other half, not FSDP2."""
    train(accelerator, sober_model, tmp_path / "plain")
    _, module = train(accelerator, sober_model, tmp_path / "sharded", execution=ShardedClients())
    assert not isinstance(module.backbone.model, FSDPModule)
    assert not dist.is_initialized()
    assert_same_export(tmp_path)


def test_fsdp2_in_a_group_of_one_exports_the_same_adapter(
    accelerator: str, sober_model: Path, tmp_path: Path, group_of_one: None
) -> None:
    """FSDP2 with its hooks, its parameters as DTensors and its gathering, of one shard."""
    execution = ShardedClients()
    trainer, module = train(accelerator, sober_model, tmp_path / "sharded", execution=execution)
    assert isinstance(module.backbone.model, FSDPModule)
    assert trainer.fabric.device.type == ("cuda" if accelerator == "gpu" else "cpu")
    train(accelerator, sober_model, tmp_path / "plain")
    assert_same_export(tmp_path)
