"""FedProx beside a plain loop, and what it pulls to what."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor

from lit_fed import FederatedModule, FedProx
from lit_fed.aggregation import FedSALoRA, FFALoRA, FlexLoRA, FLoRA, LocalOnly
from lit_fed.callbacks import TermStrength
from lit_fed.client import Client
from lit_fed.federation import ShardedClients, VectorizedClients
from tests.aggregation.test_rule_that_freezes import factor
from tests.federation.execution.agreement import assert_same_federation, sgd
from tests.federation.toy import save_toy_model, toy_backbone, toy_data, toy_trainer
from tests.methods.plain_loop import local_sgd, recorded, trained, under_names_of_payloads
from tests.methods.toy_methods import save_sober_model
from tests.slow import slow_but

MU, RATE = 0.7, 0.2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("sober") / "model")


def plain_sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=RATE)


def test_three_rounds_are_those_of_a_plain_loop(model: Path, tmp_path: Path) -> None:
    module = FedProx(toy_backbone(model), optimizer=plain_sgd, mu=MU)
    record, trainer, initial = recorded(module, tmp_path, clients_per_round=3)
    theta = {name: p.detach().clone() for name, p in trained(initial).items()}
    for number in range(3):
        sent = {
            client: local_sgd(
                initial,
                theta,
                batches,
                lambda step: RATE,
                lambda name, value, gradient, at=theta: gradient + MU * (value - at[name]),
            )[0]
            for (at, client), batches in record.batches.items()
            if at == number
        }
        total = sum(record.sizes[client] for client in sent)
        theta = {
            name: sum(record.sizes[c] / total * own[name] for c, own in sent.items())
            for name in theta
        }
    found = trainer.federation.broadcast.tensors
    expected = under_names_of_payloads(theta)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-10)
    assert trainer.federation.history[-1]["clients/train/proximal/min"] > 0


def test_a_larger_mu_keeps_clients_nearer(model: Path, tmp_path: Path) -> None:
    def moved(mu: float) -> float:
        module = FedProx(toy_backbone(model), optimizer=plain_sgd, mu=mu)
        trainer = toy_trainer(tmp_path / str(mu), max_rounds=1, local_epochs=3)
        trainer.fit(module, toy_data())
        return float(trainer.federation.history[0]["clients/update_norm/median"])

    free, near, still = (moved(mu) for mu in (0.0, 1.0, 4.0))
    assert free > 1.1 * near > 1.2 * still


@pytest.mark.parametrize(("rule", "letters"), [(FFALoRA, ["B"]), (FedSALoRA, ["A"])])
def test_what_is_frozen_or_stays_private_does_not_count(
    rule: Any, letters: list[str], model: Path
) -> None:
    module = FedProx(toy_backbone(model), rule(), mu=MU)
    broadcast = module.initial_broadcast()
    module.act_as(Client("a", 0, 8, round=0, rounds=0, steps=0))
    module.download(broadcast)
    with torch.no_grad():
        for value in module.backbone.trainable().values():
            value += 1.0
    loss = module.proximal_loss(module._weights, module._anchors)
    counted = factor(list(module.backbone.trainable()), *letters, "head")
    weights = module.backbone.trainable()
    assert loss.item() == pytest.approx(MU / 2 * sum(weights[name].numel() for name in counted))
    loss.backward()
    assert {n for n, p in weights.items() if p.grad is not None} == set(counted)


def test_a_new_round_has_new_anchors(model: Path) -> None:
    module = FedProx(toy_backbone(model), mu=MU)
    broadcast = module.initial_broadcast()
    for client in range(2):
        module.act_as(Client(str(client), client, 8, round=client, rounds=0, steps=0))
        module.download(broadcast)
        assert module.proximal_loss(module._weights, module._anchors).item() == 0
        with torch.no_grad():
            for value in module.backbone.trainable().values():
                value += 1.0
        assert module.proximal_loss(module._weights, module._anchors).item() > 0


class Pulled(FedProx):
    """Keeps the strength of the pull at each step."""

    def total_loss(self, task: Tensor, **terms: Tensor) -> Tensor:
        self.pulls = [*getattr(self, "pulls", []), float(terms["proximal"].detach())]
        return super().total_loss(task, **terms)


def test_in_a_stock_trainer_the_anchor_is_where_the_fit_starts(model: Path, tmp_path: Path) -> None:
    def fit(module: FederatedModule) -> None:
        lightning.Trainer(
            max_steps=3,
            accelerator="cpu",
            default_root_dir=tmp_path,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        ).fit(module, datamodule=toy_data())

    module = Pulled(toy_backbone(model), mu=MU, optimizer=plain_sgd)
    fit(module)
    first, *others = module.pulls
    assert first == 0
    assert min(others) > 0
    fit(module)
    assert module.pulls[3] == 0  # from where it is now


def test_the_strength_of_its_gradient_is_the_same_vectorized(model: Path, tmp_path: Path) -> None:
    """Its graph has the client's own weights, not those of the pass of all clients."""

    def strength(execution: Any) -> float:
        module = FedProx(toy_backbone(model), mu=MU, optimizer=plain_sgd)
        settings = {"max_rounds": 1, "local_steps": 3, "precision": "64-true"}
        trainer = toy_trainer(
            tmp_path / str(execution),
            execution=execution,
            callbacks=[TermStrength(1)],
            **settings,
        )
        trainer.fit(module, toy_data())
        return float(trainer.federation.history[0]["clients/strength/proximal/mean"])

    single = strength(None)
    assert single > 0
    assert strength(VectorizedClients(3)) == pytest.approx(single, rel=1e-4)


def test_bad_settings_are_named(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`model.mu` .* 0 with LocalOnly, .* but got 0.01"):
        FedProx(toy_backbone(model), LocalOnly())
    FedProx(toy_backbone(model), LocalOnly(), mu=0.0)
    with pytest.raises(ValueError, match=r"`model.mu` .* at least 0, but got nan"):
        FedProx(toy_backbone(model), mu=float("nan"))
    trainer = toy_trainer(tmp_path, execution=ShardedClients())
    with pytest.raises(ValueError, match=r"`model.mu` of FedProx .* 0 where a model is split"):
        trainer.fit(FedProx(toy_backbone(model)), toy_data())


@pytest.mark.parametrize(
    "rule",
    slow_but(None, FLoRA, of=[None, FFALoRA, FLoRA, partial(FlexLoRA, ranks={"client-1": 2})]),
    ids=["average", "ffa", "flora", "mixed ranks"],
)
def test_vectorized_clients_give_what_single_ones_do(
    rule: Callable[[], Any] | None, tmp_path: Path
) -> None:
    folder = save_toy_model(tmp_path / "model", width=16)

    def module() -> FederatedModule:
        made = None if rule is None else rule()
        return FedProx(toy_backbone(folder, 0.2), made, optimizer=sgd, mu=MU, warmup_steps=3)

    assert_same_federation(module, toy_data, tmp_path, accumulate_grad_batches=2)


def test_without_mu_nothing_is_kept(model: Path) -> None:
    module = FedProx(toy_backbone(model), mu=0.0)
    module.act_as(Client("a", 0, 8, round=0, rounds=0, steps=0))
    module.download(module.initial_broadcast())
    assert not module._anchors
