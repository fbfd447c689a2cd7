"""The protocol carries what comes: three methods that exchange three different things, one loop."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lit_fed import FederatedModule
from lit_fed.federation import last_checkpoint
from lit_fed.federation.run.checkpoint import load_checkpoint
from tests.federation.protocol_methods import Answers, SoftPredictions, TwoAdapters
from tests.federation.toy import (
    fast_adamw,
    save_toy_model,
    toy_backbone,
    toy_data,
    toy_rows,
    toy_trainer,
    without_times,
)

Make = Callable[[], FederatedModule]


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrower model with another vocabulary."""
    folder = tmp_path_factory.mktemp("other") / "model"
    return save_toy_model(folder, width=16, extra_words=("unheard", "of"))


@pytest.fixture(params=[SoftPredictions, Answers, TwoAdapters], ids=lambda c: c.__name__)
def make(request: pytest.FixtureRequest, toy_model: Path, other_model: Path) -> Make:
    def build() -> FederatedModule:
        settings = {"optimizer": fast_adamw, "warmup_steps": 0}
        if request.param is Answers:
            return Answers([toy_backbone(toy_model), toy_backbone(other_model)], **settings)
        return request.param(toy_backbone(toy_model), **settings)

    return build


def test_runs_resumes_and_counts(make: Make, tmp_path: Path) -> None:
    whole = toy_trainer(tmp_path / "whole", max_rounds=3)
    whole.fit(make(), toy_data())
    toy_trainer(tmp_path / "parts", max_rounds=2).fit(make(), toy_data())
    resumed = toy_trainer(tmp_path / "parts", max_rounds=3)
    resumed.fit(make(), toy_data(), ckpt_path="last")

    ours, theirs = whole.federation, resumed.federation
    assert without_times(ours.history) == without_times(theirs.history)
    assert ours.broadcast == theirs.broadcast
    assert ours.clients == theirs.clients
    assert ours.ledger == theirs.ledger
    assert ours.ledger.up == sum(up for up, _ in ours.ledger.clients.values()) > 0
    # callbacks give their states for the checkpoint alone
    kept = load_checkpoint(last_checkpoint(tmp_path / "whole"))
    assert replace(kept, callbacks=ours.callbacks) == ours
    assert whole.final_metrics == resumed.final_metrics


@pytest.mark.slow
def test_it_learns(make: Make, tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, max_rounds=8, clients_per_round=1.0, local_epochs=2)
    trainer.fit(make(), toy_data(train=toy_rows(320, 0), test=toy_rows(100, 2)))
    name = (
        "test/accuracy"
        if trainer.lightning_module.has_global_model
        else "clients/test/accuracy/mean"
    )
    assert trainer.final_metrics[name] >= 0.75


def test_soft_predictions_travel_beside_the_weights(toy_model: Path, tmp_path: Path) -> None:
    module = SoftPredictions(toy_backbone(toy_model), optimizer=fast_adamw, warmup_steps=0)
    trainer = toy_trainer(tmp_path, max_rounds=1)
    trainer.fit(module, toy_data())
    mixture = trainer.federation.broadcast.tensors["predictions"]
    torch.testing.assert_close(mixture.sum(-1), torch.ones(24))
    weights = sum(p.numel() * 4 for p in module.backbone.trainable().values())
    assert trainer.federation.ledger.up == 3 * (weights + 24 * 2 * 4)
    assert trainer.federation.ledger.down == 3 * weights  # round 0 knows no mixture yet


def test_answers_send_no_weights(toy_model: Path, other_model: Path, tmp_path: Path) -> None:
    module = Answers(
        [toy_backbone(toy_model), toy_backbone(other_model)], optimizer=fast_adamw, warmup_steps=0
    )
    trainer = toy_trainer(tmp_path, max_rounds=2)
    trainer.fit(module, toy_data())
    assert not trainer.federation.broadcast.tensors
    assert trainer.federation.ledger.up <= 2 * 3 * 24 * len("good")
    widths = {
        max(t.shape[-1] for t in c.private.tensors.values())
        for c in trainer.federation.clients.values()
    }
    assert len(widths) == 2  # both architectures took part, each client with its own


def test_the_private_adapter_never_leaves(toy_model: Path, tmp_path: Path) -> None:
    module = TwoAdapters(toy_backbone(toy_model), optimizer=fast_adamw, warmup_steps=0)
    trainer = toy_trainer(tmp_path, max_rounds=2, clients_per_round=1.0)
    trainer.fit(module, toy_data())
    privates = [c.private for c in trainer.federation.clients.values()]
    assert all(a != b for i, a in enumerate(privates) for b in privates[:i])
    assert trainer.federation.broadcast.tensors.keys() == module.backbone.trainable().keys()
    adapter = sum(p.numel() * 4 for p in module.backbone.trainable().values())
    assert trainer.federation.ledger.rounds == [(4 * adapter, 4 * adapter)] * 2
