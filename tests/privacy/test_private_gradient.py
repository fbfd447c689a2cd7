"""Gradients of single rows beside single-row backward passes, their bound, and the noise on their sum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftConfig, PrefixTuningConfig, PromptTuningConfig
from torch import Tensor, nn

from lit_fed import FedAvg, FederatedModule
from lit_fed.backbones import BitFitConfig, BottleneckConfig, CausalLM, SequenceClassifier
from lit_fed.losses import kl_distill, sums_over_rows
from lit_fed.metric_averager import MetricAverager
from lit_fed.privacy import PrivateGradient
from tests.federation.toy import toy_data
from tests.methods.toy_methods import lm_data, save_sober_model, save_toy_lm

Batch = dict[str, Tensor]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_sober_model(tmp_path_factory.mktemp("toy") / "model")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_toy_lm(tmp_path_factory.mktemp("toy") / "lm")


def ready(module: FederatedModule) -> FederatedModule:
    """The module in training, with weights that are not where adapters begin, so that all have a gradient."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn_like(parameter)
    module.metric_averager = MetricAverager()
    return module.train()


def classifying(folder: Path, peft: PeftConfig | None, method: type[FedAvg] = FedAvg) -> Any:
    torch.manual_seed(0)
    return ready(method(SequenceClassifier(str(folder), peft=peft)))


def writing(folder: Path, peft: PeftConfig | None) -> Any:
    torch.manual_seed(0)
    return ready(FedAvg(CausalLM(str(folder), peft=peft)))


def batch_of(module: FederatedModule, data: Any, rows: int) -> Batch:
    data.setup()
    batch: Batch = next(iter(data.dataloader(data.clients[0].rows, module.tokenizer, seed=0)))
    return {name: field[:rows] for name, field in batch.items()}


@contextmanager
def taking(
    module: FederatedModule, bound: float = 1.0, sigma: float = 0.0, seed: int = 0
) -> Iterator[PrivateGradient]:
    optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=1.0)
    generator = torch.Generator().manual_seed(seed)
    gradient = PrivateGradient(module, optimizer, bound, sigma, generator)
    try:
        yield gradient
    finally:
        gradient.close()


def backward(module: FederatedModule, batch: Batch) -> None:
    count = len(batch["labels"])
    with sums_over_rows(count, expected=1.0):
        loss: Any = module.training_step(batch, 0)
    loss.backward()


def take(module: FederatedModule, batch: Batch) -> None:
    with taking(module) as gradient:
        backward(module, batch)
        gradient.take(len(batch["labels"]))


def row_by_row(module: FederatedModule, batch: Batch) -> dict[str, Tensor]:
    """The gradient of each row from a backward pass of its own, without any hook."""
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    rows = []
    for i in range(len(batch["labels"])):
        loss: Any = module.training_step({n: f[i : i + 1] for n, f in batch.items()}, 0)
        rows.append(torch.autograd.grad(loss, list(trained.values()), allow_unused=True))
    return {
        name: torch.stack([torch.zeros_like(p) if g is None else g for g in found])
        for (name, p), found in zip(trained.items(), zip(*rows, strict=True), strict=True)
    }


def total(rows: dict[str, Tensor]) -> Tensor:
    """[B, D]."""
    return torch.cat([one.flatten(1) for one in rows.values()], 1)


LORA = LoraConfig(r=4, lora_alpha=8)


@pytest.mark.parametrize(
    "peft",
    [LORA, BottleneckConfig(width=4), PrefixTuningConfig(num_virtual_tokens=3)],
    ids=["lora", "bottleneck", "prefix"],
)
def test_gradients_of_a_classifiers_rows_are_those_of_single_row_passes(
    peft: PeftConfig | None, classifier: Path
) -> None:
    module = classifying(classifier, peft)
    batch = batch_of(module, toy_data(), 6)
    expected = row_by_row(module, batch)
    with taking(module) as gradient:
        backward(module, batch)
        found = gradient.rows(6)
    assert found.keys() == expected.keys()
    for name, rows in expected.items():
        torch.testing.assert_close(found[name], rows, rtol=0, atol=1e-5, msg=name)
    assert float(total(expected).norm(dim=1).min()) > 1e-2


class TwoNames(FedAvg):
    """A backbone that has a second name, as where clients have models of their own."""

    def __init__(self, backbone: SequenceClassifier) -> None:
        super().__init__(backbone)
        self.models = nn.ModuleList([backbone])


def test_the_gradients_of_a_model_with_two_names_are_taken_once(classifier: Path) -> None:
    module = classifying(classifier, LORA, TwoNames)
    batch = batch_of(module, toy_data(), 4)
    expected = row_by_row(module, batch)
    with taking(module) as gradient:
        backward(module, batch)
        found = gradient.rows(4)
    for name, rows in expected.items():
        torch.testing.assert_close(found[name], rows, rtol=0, atol=1e-5, msg=name)


def test_gradients_of_texts_are_those_of_single_row_passes_however_many_tokens_they_have(
    language_model: Path,
) -> None:
    module = writing(language_model, LORA)
    batch = {n: f[::4] for n, f in batch_of(module, lm_data(batch_size=24), 24).items()}
    assert len(set((batch["labels"] != -100).sum(1).tolist())) > 1
    expected = row_by_row(module, batch)
    with taking(module) as gradient:
        backward(module, batch)
        found = gradient.rows(6)
    for name, rows in expected.items():
        torch.testing.assert_close(found[name], rows, rtol=0, atol=1e-5, msg=name)


def test_weights_of_rows_weigh_their_gradients(classifier: Path) -> None:
    module = classifying(classifier, LORA)
    batch = batch_of(module, toy_data(), 4)
    weight = torch.tensor([1.0, 0.5, 0.0, 2.0])
    expected = total(row_by_row(module, batch))
    with taking(module) as gradient:
        backward(module, batch | {"weight": weight})
        found = total(gradient.rows(4))
    torch.testing.assert_close(found, weight[:, None] * expected, rtol=0, atol=1e-5)


class TwoTerms(FedAvg):
    """The task and a distillation from fixed logits on the same rows."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        student = self(batch)
        teacher = torch.stack([batch["index"] % 3, batch["index"] % 5], 1).float()
        distill = kl_distill(student.logits, teacher, student.mask)
        return self.total_loss(self.task_loss(student, batch), distill=0.7 * distill)


def test_the_terms_of_a_row_are_one_gradient_before_it_is_bounded(classifier: Path) -> None:
    module = classifying(classifier, LORA, TwoTerms)
    batch = batch_of(module, toy_data(), 5)
    expected = total(row_by_row(module, batch))
    bound = float(expected.norm(dim=1).median())
    clipped = expected * (bound / expected.norm(dim=1).clamp(min=bound))[:, None]
    with taking(module, bound) as gradient:
        backward(module, batch)
        torch.testing.assert_close(total(gradient.rows(5)), expected, rtol=0, atol=1e-5)
        gradient.take(5)
        found = torch.cat([p.grad.flatten() for p in gradient.parameters])
    torch.testing.assert_close(found, clipped.sum(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bound", [1e-3, 0.1, 1.0])
def test_no_row_moves_the_sum_by_more_than_the_bound(bound: float, classifier: Path) -> None:
    module = classifying(classifier, LORA)
    batch = batch_of(module, toy_data(), 6)

    def summed(places: list[int]) -> Tensor:
        with taking(module, bound) as gradient:
            if places:
                backward(module, {name: field[places] for name, field in batch.items()})
            gradient.take(len(places))
            return torch.cat([p.grad.double().flatten() for p in gradient.parameters])

    every = list(range(6))
    whole = summed(every)
    moved = [float((whole - summed([j for j in every if j != i])).norm()) for i in every]
    assert max(moved) <= bound * (1 + 1e-5)
    assert max(moved) > 0.9 * bound
    assert float(summed([2]).norm()) <= bound * (1 + 1e-5)
    assert float(summed([]).norm()) == 0


@pytest.mark.parametrize("rows", [0, 4])
def test_noise_has_the_deviation_of_its_multiplier_times_the_bound(
    rows: int, classifier: Path
) -> None:
    module = classifying(classifier, LoraConfig(r=64, lora_alpha=8))
    batch = batch_of(module, toy_data(), 4)
    found = []
    for seed in (0, 0, 1):
        with taking(module, bound=0.5, sigma=3.0, seed=seed) as gradient:
            if rows:
                backward(module, batch)
            gradient.take(rows)
            found.append(torch.cat([p.grad.flatten() for p in gradient.parameters]))
    with taking(module, bound=0.5) as gradient:
        if rows:
            backward(module, batch)
        gradient.take(rows)
        without = torch.cat([p.grad.flatten() for p in gradient.parameters])
    noise = found[0] - without
    assert len(noise) > 10000
    assert float(noise.std()) == pytest.approx(1.5, rel=4 / (2 * len(noise)) ** 0.5)
    assert abs(float(noise.mean())) < 4 * 1.5 / len(noise) ** 0.5
    assert torch.equal(found[0], found[1])
    assert abs(float(torch.corrcoef(torch.stack([noise, found[2] - without]))[0, 1])) < 0.05


def test_nothing_is_left_on_the_module(classifier: Path) -> None:
    module = classifying(classifier, LORA)
    batch = batch_of(module, toy_data(), 4)
    before = [sorted(vars(part)) for part in module.modules()]
    with taking(module) as gradient:
        backward(module, batch)
        gradient.take(4)
    module.zero_grad()
    assert [sorted(vars(part)) for part in module.modules()] == before
    left = {name for parameter in module.parameters() for name in vars(parameter)}
    assert left <= {"_is_hf_initialized"}, left
    backward(module, batch)


class Unused(FedAvg):
    """Trains something that the loss does not depend on."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.beside = nn.Linear(2, 2)


class TwoPasses(FedAvg):
    """Leaves a pass out of its loss."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self(batch)
        return super().training_step(batch, batch_idx)


class OtherRows(FedAvg):
    """Predicts more rows than the batch has."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        twice = {name: torch.cat([field, field]) for name, field in batch.items()}
        return super().training_step(twice, batch_idx)


class ProjectedMean(FedAvg):
    """Trains a layer that is given the batch's mean."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.beside = nn.Linear(2, 2)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        student = self(batch)
        mean = self.beside(student.logits.mean(0, keepdim=True)).expand(len(batch["labels"]), 2)
        distill = kl_distill(mean, student.logits, student.mask)
        return self.total_loss(self.task_loss(student, batch), distill=distill)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Unused, r"depend on each of the weights that train, but on 'beside\.weight' it does not"),
        (TwoPasses, r"in a part of its passes only"),
        (
            OtherRows,
            r"a mean over the 4 rows of the batch .*, but is one over values of shape \[8\]",
        ),
        (ProjectedMean, r"of 'beside\.weight' there are \[1, 2, 2\]"),
    ],
)
def test_what_is_no_gradient_of_rows_is_refused(
    method: type[FedAvg], message: str, classifier: Path
) -> None:
    module = classifying(classifier, LORA, method)
    batch = batch_of(module, toy_data(), 4)
    with pytest.raises(ValueError, match=message):
        take(module, batch)


@pytest.mark.parametrize(
    ("peft", "message"),
    [
        (LoraConfig(r=4, use_dora=True), r"magnitude_vector.*is a DoraLinearLayer"),
        (IA3Config(), r"ia3_l' is a ParameterDict"),
        (BitFitConfig(), r"bitfit_bias' is a ParameterDict"),
        (PromptTuningConfig(num_virtual_tokens=3), r"prompt_encoder.* there are \[1, 3, 32\]"),
        (None, r"position_embeddings.* there are \[1, 32, 32\]"),
    ],
    ids=["dora", "ia3", "bitfit", "prompt", "all weights"],
)
def test_what_hooks_cannot_tell_is_refused_by_name(
    peft: PeftConfig | None, message: str, classifier: Path
) -> None:
    module = classifying(classifier, peft)
    batch = batch_of(module, toy_data(), 4)
    with pytest.raises(ValueError, match=message):
        take(module, batch)
