"""Distillation on adversarial embeddings: beside a plain loop, in every execution, and what it refuses."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_fed import AdversarialDistillation, Distillation, FederatedModule
from lit_fed.batch_in_step import BatchInStep
from lit_fed.federation import ShardedClients
from lit_fed.methods.distillation import EmbeddingPGD, projected_step
from lit_fed.methods.teachers import FrozenTeacher
from lit_fed.privacy import DPSGD
from tests.federation.execution.agreement import assert_same_federation, sgd
from tests.federation.toy import (
    save_toy_model,
    toy_backbone,
    toy_data,
    toy_trainer,
    without_times,
)
from tests.methods.distillation.toy_teachers import WHOLE, llama_classifier, llama_teacher, read_by
from tests.methods.plain_loop import local_sgd, recorded, trained, under_names_of_payloads
from tests.methods.toy_methods import continue_text, lm_data, save_sober_model, save_toy_lm

LAMBDA, T, RATE, EPSILON, STEPS = 0.7, 2.5, 0.2, 0.3, 3


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("student") / "model")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("llama") / "model")


def plain_sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=RATE)


def method(folder: Path, teacher: Any = None, **settings: Any) -> AdversarialDistillation:
    given = {
        "optimizer": plain_sgd,
        "lambda_distill": LAMBDA,
        "temperature": T,
        "adversary": EmbeddingPGD(EPSILON, STEPS),
    }
    return AdversarialDistillation(toy_backbone(folder), teacher=teacher, **given | settings)


def test_a_step_is_numpys_and_stays_in_the_box() -> None:
    draws = np.random.default_rng(0)
    delta, gradient = draws.uniform(-0.3, 0.3, (4, 5)), draws.normal(size=(4, 5))
    gradient[0, 0] = 0.0
    expected = np.clip(delta + 0.2 * np.sign(gradient), -0.3, 0.3)
    found = projected_step(torch.from_numpy(delta), torch.from_numpy(gradient), 0.2, 0.3)
    np.testing.assert_allclose(found.numpy(), expected)
    # only the gradient's sign counts
    again = projected_step(torch.from_numpy(delta), 7 * torch.from_numpy(gradient), 0.2, 0.3)
    assert torch.equal(again, found)


def client_seed(run: int, round: int, index: int) -> int:
    """The seed of a client's round as it is documented."""
    return int(np.random.SeedSequence(entropy=run, spawn_key=(round, index)).generate_state(1)[0])


def test_two_rounds_are_those_of_a_plain_loop(student: Path, llama: Path, tmp_path: Path) -> None:
    own = llama_classifier(llama)
    reader = copy.deepcopy(own.model).double().eval()
    module = method(student, FrozenTeacher(own))
    record, trainer, initial = recorded(
        module, tmp_path, clients_per_round=1.0, max_rounds=2, local_epochs=1
    )
    theta = {name: p.detach().clone() for name, p in trained(initial).items()}
    steps = dict.fromkeys(record.sizes, 0)
    raised: list[bool] = []

    for number in range(2):
        sent: dict[str, dict[str, Tensor]] = {}
        for (at, client), batches in record.batches.items():
            if at != number:
                continue
            seed = client_seed(0, at, int(client.removeprefix("client-")))

            def loss(
                model: nn.Module, batch: dict[str, Tensor], seed: int = seed, client: str = client
            ) -> Tensor:
                table = model.get_input_embeddings()
                clean = table(batch["input_ids"]).detach()
                target = read_by(own, reader, batch, WHOLE)
                mask = batch["attention_mask"].unsqueeze(-1)

                def at_shift(delta: Tensor) -> Tensor:
                    predicted = model(
                        inputs_embeds=clean + delta, attention_mask=batch["attention_mask"]
                    ).logits
                    kl = F.kl_div(
                        (predicted / T).log_softmax(-1),
                        (target / T).softmax(-1),
                        reduction="batchmean",
                    )
                    return F.cross_entropy(predicted, batch["labels"]) + LAMBDA * T**2 * kl

                place = random.Random(f"PGD {seed} {steps[client]}").getrandbits(63)
                steps[client] += 1
                draws = torch.Generator().manual_seed(place)
                delta = torch.empty_like(clean).uniform_(-EPSILON, EPSILON, generator=draws) * mask
                first = at_shift(delta).item()
                for _ in range(STEPS):
                    delta = delta.detach().requires_grad_()
                    (slope,) = torch.autograd.grad(at_shift(delta), delta)
                    delta = delta + 2.5 * EPSILON / STEPS * slope.sign()
                    box = torch.tensor(EPSILON, dtype=torch.float64)
                    delta = torch.max(torch.min(delta, box), -box)
                    delta = delta.detach() * mask
                raised.append(at_shift(delta).item() > first)
                return at_shift(delta)

            sent[client] = local_sgd(
                initial, theta, batches, lambda step: RATE, lambda n, value, grad: grad, loss
            )[0]
        total = sum(record.sizes.values())
        theta = {
            name: sum(record.sizes[c] / total * values[name] for c, values in sent.items())
            for name in theta
        }
    assert np.mean(raised) > 0.95
    found, expected = trainer.federation.broadcast.tensors, under_names_of_payloads(theta)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-9)


class Watched(AdversarialDistillation):
    """Keeps what the model's layers see of each pass, and whether a parameter has a gradient by then."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.seen: list[Tensor] = []
        base = self.backbone.model.get_base_model()
        table = base.get_input_embeddings()
        inner = base.bert.embeddings
        clean = table.weight[batch["input_ids"]]

        def look(module: Any, args: Any, kwargs: Any, output: Tensor) -> None:
            self.graded = any(p.grad is not None for p in self.parameters())

        def before(module: Any, args: Any, output: Tensor) -> None:
            self.seen.append(output.detach() - clean)

        handles = [inner.register_forward_hook(look, with_kwargs=True)]
        with self.adversary.perturbed(self, batch, lambda: self.task_loss(self(batch), batch)):
            handles.append(table.register_forward_hook(before))
            self(batch)
        for handle in handles:
            handle.remove()
        return super().training_step(batch, batch_idx)


def test_padding_is_left_alone_and_no_parameter_gets_a_gradient(student: Path) -> None:
    data = toy_data()
    data.setup()
    module = Watched(toy_backbone(student), adversary=EmbeddingPGD(EPSILON, STEPS)).train()
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    rows = data.clients[0].rows
    batch = next(iter(data.dataloader(rows, module.tokenizer)))
    assert not batch["attention_mask"].all()
    torch.manual_seed(4)
    state = torch.get_rng_state()
    module.training_step(batch, 0)
    assert torch.equal(torch.get_rng_state(), state)  # the student has no dropout that would draw
    assert not module.graded
    (shift,) = module.seen
    inside = batch["attention_mask"].bool()
    assert not shift[~inside].any()
    assert EPSILON - 1e-6 < float(shift[inside].abs().max()) <= EPSILON + 1e-6
    assert float((shift[inside].abs() > 0.1 * EPSILON).float().mean()) > 0.9
    table = module.backbone.model.get_base_model().get_input_embeddings()
    assert not table._forward_hooks


def test_the_start_is_of_client_round_step_and_batch(student: Path) -> None:
    """torch's last seed stands for the client and its round."""
    data = toy_data()
    data.setup()
    module = method(student, lambda_distill=0.0)
    batch = next(iter(data.dataloader(data.clients[0].rows, module.tokenizer)))
    table = module.backbone.model.get_base_model().get_input_embeddings()

    def start(seed: int) -> Tensor:
        torch.manual_seed(seed)
        with EmbeddingPGD(EPSILON, 1, 1e-12).perturbed(
            module, batch, lambda: module.task_loss(module(batch), batch)
        ):
            found: Tensor = table(batch["input_ids"]).detach()
        return found

    assert torch.equal(start(3), start(3))
    assert not torch.equal(start(3), start(4))
    first = start(3)
    module.batch_in_step = BatchInStep(0, 4)
    assert torch.equal(start(3), first)
    module.batch_in_step = BatchInStep(1, 4)
    assert not torch.equal(start(3), first)


def test_without_a_box_it_is_distillation(student: Path, tmp_path: Path) -> None:
    def ran(name: str, module: FederatedModule) -> Any:
        trainer = toy_trainer(tmp_path / name, max_rounds=1, test_at_end=False)
        trainer.fit(module, toy_data())
        return trainer.federation

    off = ran("off", method(student, adversary=EmbeddingPGD(0.0)))
    settings = {"lambda_distill": LAMBDA, "temperature": T}
    plain = ran("plain", Distillation(toy_backbone(student), optimizer=plain_sgd, **settings))
    assert off.broadcast == plain.broadcast


def test_vectorized_clients_give_what_single_ones_do(llama: Path, tmp_path: Path) -> None:
    folder = save_toy_model(tmp_path / "model", width=16)

    def module() -> FederatedModule:
        given = {"optimizer": sgd, "adversary": EmbeddingPGD(0.1, 2)}
        return AdversarialDistillation(
            toy_backbone(folder, 0.2), teacher=llama_teacher(llama), **given
        )

    data = partial(toy_data, num_clients=2, batch_size=5)
    assert_same_federation(module, data, tmp_path, local_steps=1, accumulate_grad_batches=2)


def test_a_resumed_run_is_a_whole_one_bit_for_bit(
    student: Path, llama: Path, tmp_path: Path
) -> None:
    def fit(name: str, rounds: int, ckpt_path: str | None = None) -> Any:
        trainer = toy_trainer(tmp_path / name, max_rounds=rounds, local_steps=2)
        trainer.fit(method(student, llama_teacher(llama)), toy_data(), ckpt_path)
        return trainer.federation

    whole = fit("whole", 2)
    fit("parts", 1)
    parts = fit("parts", 2, "last")
    assert parts.broadcast == whole.broadcast
    assert without_times(parts.history) == without_times(whole.history)


def test_language_models_and_a_stock_trainer_train_too(llama: Path, tmp_path: Path) -> None:
    def module() -> FederatedModule:
        return continue_text(AdversarialDistillation, llama, adversary=EmbeddingPGD(0.05))

    trainer = toy_trainer(tmp_path, max_rounds=1, clients_per_round=2, local_steps=2)
    trainer.fit(module(), lm_data())
    assert trainer.federation.history[0]["clients/train/distill/mean"] > 0
    stock = lightning.Trainer(max_steps=2, accelerator="cpu", logger=False, barebones=True)
    stock.fit(module(), datamodule=lm_data())
    assert stock.global_step == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EmbeddingPGD(-0.1), r"`model.adversary.epsilon` .* at least 0, but got -0.1"),
        (lambda: EmbeddingPGD(steps=0), r"`model.adversary.steps` .* at least 1, but got 0"),
        (lambda: EmbeddingPGD(step_size=0.0), r"`model.adversary.step_size` .* above 0, but got 0"),
    ],
)
def test_bad_settings_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_what_cannot_be_done_is_refused_before_training(student: Path, tmp_path: Path) -> None:
    module = method(student)
    private = toy_trainer(tmp_path, privacy=DPSGD(noise_multiplier=1.0), gradient_clip_val=None)
    with pytest.raises(ValueError, match=r"`trainer.privacy` expects `model.adversary.epsilon`"):
        private.fit(module, toy_data())
    module.teacher.private_cache.budget = 0
    with pytest.raises(ValueError, match=r"`model.adversary.epsilon` .* split over processes"):
        toy_trainer(tmp_path, execution=ShardedClients()).fit(module, toy_data())
    with pytest.raises(TypeError, match=r"`model.adversary`"):
        method(student, adversary=EmbeddingPGD)
