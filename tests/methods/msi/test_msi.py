from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from lit_fed import DDGMSI, MSI, FederatedModule, Payload
from lit_fed.data import IIDPartitioner
from lit_fed.losses import stability
from lit_fed.perturbations import (
    DropBlock,
    GaussianNoise,
    LowRankReconstruction,
    Perturbation,
    WeightNoise,
)
from tests.federation.toy import save_toy_model, toy_data, toy_trainer
from tests.methods.toy_methods import classify, continue_text, lm_data, save_toy_lm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_model(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("lm") / "model")


class Passes(Callback):
    """A client's own step at each training batch, and the module's passes by then."""

    def __init__(self, module: FederatedModule) -> None:
        self.steps: dict[str, list[int]] = {}
        self.counts: dict[str, list[int]] = {}
        self.passes = 0
        module.backbone.model.register_forward_pre_hook(self.count)

    def count(self, *_: Any) -> None:
        self.passes += 1

    def on_train_batch_start(self, trainer: Any, module: MSI, batch: Any, index: int) -> None:
        self.passes = 0

    def on_train_batch_end(
        self, trainer: Any, module: MSI, loss: Tensor, batch: Any, index: int
    ) -> None:
        assert module.client is not None
        # The step has been counted by now.
        self.steps.setdefault(module.client.id, []).append(module.client.steps - 1)
        self.counts.setdefault(module.client.id, []).append(self.passes)


def test_injection_counts_the_clients_own_steps_across_rounds(model: Path, tmp_path: Path) -> None:
    module = classify(MSI, model, inject_every=3)
    passes = Passes(module)
    trainer = toy_trainer(tmp_path, max_rounds=3, local_steps=4, callbacks=[passes])
    trainer.fit(module, toy_data())
    assert any(len(steps) >= 8 for steps in passes.steps.values())
    for client, steps in passes.steps.items():
        assert steps == list(range(len(steps)))
        assert passes.counts[client] == [1 if step % 3 else 2 for step in steps]


@pytest.mark.parametrize(
    "perturbation",
    [GaussianNoise(), DropBlock(), LowRankReconstruction(), WeightNoise()],
    ids=lambda p: type(p).__name__,
)
@pytest.mark.parametrize("kind", ["classifier", "language model"])
def test_every_perturbation_trains(
    kind: str, perturbation: Perturbation, model: Path, language_model: Path, tmp_path: Path
) -> None:
    settings = {"perturbation": perturbation, "inject_every": 1}
    if kind == "classifier":
        module, data = classify(MSI, model, **settings), toy_data()
    else:
        module, data = continue_text(MSI, language_model, **settings), lm_data()
    trainer = toy_trainer(
        tmp_path, max_rounds=1, local_steps=2, clients_per_round=1, test_at_end=False
    )
    trainer.fit(module, data)
    row = trainer.federation.history[-1]
    assert row["clients/train/stability/mean"] > 0
    assert row["clients/train/weight_regularization/mean"] > 0


def test_the_loss_is_the_equation_and_the_size_has_no_gradient(model: Path) -> None:
    data = toy_data()
    data.setup()
    module = classify(MSI, model, mu=0.7, beta=0.5, inject_every=1).train()
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value.detach())})  # type: ignore[method-assign]
    batch = next(iter(data.dataloader(data.clients[0].rows, module.tokenizer)))
    torch.manual_seed(3)
    with module.injection.shared_dropout(module) as randomness:
        clean = module(batch)
    after = torch.get_rng_state()
    perturbed, injection = module.injection.perturbed(module, batch, randomness)
    assert torch.equal(torch.get_rng_state(), after)
    assert perturbed is not None
    assert injection is not None
    size = sum(
        (injection.delta_square[site] / injection.output_square[site]).mean()
        for site in module.injection.sites
    )
    ce = torch.nn.functional.cross_entropy(clean.logits, batch["labels"])
    st = stability(clean.logits, perturbed.logits, clean.mask)
    torch.manual_seed(3)
    ours = module.training_step(batch, 0)
    torch.testing.assert_close(ours, ce + 0.7 * (st + 0.5 * size))
    assert logged["train/weight_regularization"] == pytest.approx(0.35 * float(size))
    assert float(size) == pytest.approx(2 * 0.3**2, rel=0.1)
    assert not module.weight_regularization_loss(injection).requires_grad


def test_learnt_magnitudes_ascend_and_stay_with_their_client(model: Path, tmp_path: Path) -> None:
    noise = GaussianNoise(0.1, learn_scale=True, rho_max=0.13)
    module = classify(MSI, model, perturbation=noise, inject_every=2, beta=0.0)
    trainer = toy_trainer(tmp_path, max_rounds=2, local_steps=4, clients_per_round=2)
    trainer.fit(module, toy_data())
    names = set(module.backbone.trainable())
    assert set(trainer.federation.broadcast.tensors) == names
    for state in trainer.federation.clients.values():
        learnt = state.private.tensors["perturbation.magnitudes.attention"]
        assert 0.1 < float(learnt) <= 0.13
        assert float(state.private.tensors["perturbation.magnitudes.norm"]) == pytest.approx(0.1)


class Seeds(GaussianNoise):
    """Keeps where each draw has begun."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.found: list[int] = []

    def delta(self, module: Any, output: Tensor, mask: Tensor, generator: Any) -> Tensor:
        self.found.append(generator.initial_seed())
        return super().delta(module, output, mask, generator)


def test_the_batches_of_a_step_have_draws_of_their_own_and_magnitudes_move_once_a_step(
    model: Path, tmp_path: Path
) -> None:
    noise = Seeds(0.3, learn_scale=True, scale_lr=0.01)
    module = classify(MSI, model, perturbation=noise, sites=("embedding",), inject_every=1)
    trainer = toy_trainer(
        tmp_path, max_rounds=1, clients_per_round=1, local_steps=1, accumulate_grad_batches=4
    )
    data = toy_data(partitioner=IIDPartitioner(), num_clients=1, batch_size=8)
    trainer.fit(module, data)
    (client,) = trainer.federation.clients.values()
    assert client.steps == 1
    assert len(noise.found) == len(set(noise.found)) == 4
    moved = float(client.private.tensors["perturbation.magnitudes.embedding"]) - 0.3
    assert abs(moved) == pytest.approx(0.01)


def test_so_they_have_in_a_stock_trainer(model: Path) -> None:
    noise = Seeds(0.3, learn_scale=True, scale_lr=0.01)
    module = classify(MSI, model, perturbation=noise, sites=("embedding",), inject_every=1)
    stock = Trainer(
        max_epochs=1,
        limit_train_batches=6,
        accumulate_grad_batches=4,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        accelerator="cpu",
        limit_val_batches=0,
    )
    stock.fit(module, toy_data(batch_size=8))
    assert stock.global_step == 2  # of four batches, and of the two that are left
    assert len(noise.found) == len(set(noise.found)) == 6
    moved = float(noise.magnitudes["embedding"]) - 0.3
    assert min(abs(abs(moved) - steps * 0.01) for steps in (0, 2)) < 1e-6


def test_an_absent_site_is_named_at_once(model: Path) -> None:
    with pytest.raises(ValueError, match=r"site .* but got 'wings'"):
        classify(MSI, model, sites=["wings"])
    with pytest.raises(ValueError, match=r"`model\.inject_every` is expected"):
        classify(MSI, model, inject_every=0)


def test_a_pass_that_raises_leaves_no_hook(model: Path) -> None:
    data = toy_data()
    data.setup()
    module = classify(DDGMSI, model, inject_every=1)
    module.download(Payload(module.backbone.trainable()))
    hooks = sum(len(part._forward_hooks) for part in module.modules())
    batch = next(iter(data.dataloader(data.clients[0].rows, module.tokenizer)))
    with module.injection.shared_dropout(module) as randomness:
        module(batch)
    broken = batch | {"input_ids": batch["input_ids"] + 10_000}
    with pytest.raises(IndexError):
        module.injection.perturbed(module, broken, randomness)
    assert sum(len(part._forward_hooks) for part in module.modules()) == hooks
