"""FFA-LoRA, FedSA-LoRA and RoLoRA on random numbers, beside NumPy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_fed import FedAvg, Payload
from lit_fed.aggregation import FedSALoRA, FFALoRA, RoLoRA, WeightedAverage
from lit_fed.aggregation.lora.distance import DISTANCE, LoRADistance
from lit_fed.aggregation.lora.rule import LoRARule
from lit_fed.backbones import SequenceClassifier
from lit_fed.client import Client
from lit_fed.update import Update
from tests.federation.toy import fast_adamw, toy_backbone, toy_data, toy_trainer

SIZES = {"a": 30, "b": 10, "c": 25}


def in_round(number: int, rounds: int = 0) -> Client:
    return Client("late", 0, 8, round=number, rounds=rounds, steps=0, task="second")


def with_random_factors(folder: Path) -> SequenceClassifier:
    torch.manual_seed(1)
    backbone = toy_backbone(folder)
    backbone.to(torch.float64)
    with torch.no_grad():
        for value in backbone.trainable().values():
            value.copy_(torch.randn_like(value))
    return backbone


def random_updates(backbone: SequenceClassifier, names: list[str]) -> list[Update]:
    held = backbone.trainable()
    return [
        Update(k, Payload({n: torch.randn(held[n].shape).double() for n in names}), size)
        for k, size in SIZES.items()
    ]


@pytest.mark.parametrize(
    ("made", "number", "moving"),
    [(FFALoRA, 0, "B"), (FFALoRA, 1, "B"), (RoLoRA, 0, "B"), (RoLoRA, 1, "A"), (RoLoRA, 2, "B")],
)
def test_the_mean_of_one_factor_is_the_mean_of_the_changes(
    made: Callable[[], LoRARule], number: int, moving: str, toy_model: Path
) -> None:
    backbone = with_random_factors(toy_model)
    rule = made()
    rule.setup(backbone)
    names = list(backbone.trainable())
    trained = rule.trains(names, in_round(number))
    factors = {name for name in trained if "lora" in name}
    assert factors == {name for name in names if f"lora_{moving}" in name}
    assert set(trained) - factors == {name for name in names if "lora" not in name}
    assert list(rule.sends(trained, in_round(number))) == trained

    built = Payload(backbone.trainable())
    before = built.select(rule.receives(names, None))
    updates = random_updates(backbone, trained)
    after = rule(updates, before)
    assert after.tensors.keys() == before.tensors.keys()
    total = sum(SIZES.values())
    for name in trained:
        mean = sum(u.payload.tensors[name].numpy() * u.num_samples / total for u in updates)
        np.testing.assert_allclose(after.tensors[name].numpy(), mean, rtol=0, atol=1e-12)
    for name in before.tensors.keys() - set(trained):
        assert torch.equal(after.tensors[name], before.tensors[name])

    off = size = 0.0
    for a, b in ((w.a, w.b) for w in rule.layout.weights.values()):

        def change(sent: Payload, a: str = a, b: str = b) -> np.ndarray:
            held = {**built.tensors, **sent.tensors}
            product: np.ndarray = 2.0 * (held[b].numpy() @ held[a].numpy())  # alpha 8, r 4
            return product

        exact = sum(change(u.payload) * u.num_samples / total for u in updates)
        off += np.sum((change(after) - exact) ** 2)
        size += np.sum(exact**2)
    assert (off / size) ** 0.5 < 1e-12
    distance = LoRADistance.of(backbone, rule)
    assert distance is not None
    told = distance.metrics(updates, rule.weights(updates), built.tensors, after)
    assert told[DISTANCE] < 1e-12
    # and the mean of both factors, on the same numbers, is something else
    both = random_updates(backbone, names)
    naive = WeightedAverage()(both, built)
    told = distance.metrics(both, rule.weights(both), built.tensors, naive)
    assert told[DISTANCE] > 0.1


def test_what_alternates_is_the_federation_s_round(toy_model: Path) -> None:
    backbone = toy_backbone(toy_model)
    rule = RoLoRA()
    rule.setup(backbone)
    names = list(backbone.trainable())
    for number in range(4):
        trained = rule.trains(names, in_round(number, rounds=0))
        assert trained == rule.trains(names, in_round(number, rounds=3))
        assert trained != rule.trains(names, in_round(number + 1, rounds=0))
    assert rule.trains(names, None) == names


@pytest.mark.parametrize("head", ["frozen", "shared", "private"])
def test_only_a_is_shared(head: str, toy_model: Path) -> None:
    backbone = with_random_factors(toy_model)
    rule = FedSALoRA(head)  # type: ignore[arg-type]
    rule.setup(backbone)
    names, client = list(backbone.trainable()), in_round(0)
    others = {name for name in names if "lora" not in name}
    trained = rule.trains(names, client)
    assert set(names) - set(trained) == (others if head == "frozen" else set())
    shared = {name for name in names if "lora_A" in name} | (others if head == "shared" else set())
    assert set(rule.sends(trained, client)) == set(rule.receives(names, client)) == shared
    updates = random_updates(backbone, sorted(shared))
    after = rule(updates, Payload(backbone.trainable()).select(shared))
    for name in shared:
        mean = sum(u.payload.tensors[name].numpy() * u.num_samples for u in updates) / 65
        np.testing.assert_allclose(after.tensors[name].numpy(), mean, rtol=0, atol=1e-12)
    assert LoRADistance.of(backbone, rule) is None


def test_another_head_is_refused() -> None:
    message = "`model.aggregation.head` is expected to be frozen, shared or private, but got 'sent'"
    with pytest.raises(ValueError, match=message):
        FedSALoRA("sent")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "frozen", "what"),
    [(FFALoRA(), "lora_A", "A"), (FedSALoRA("frozen"), "classifier", "head")],
)
def test_a_run_does_not_go_on_with_other_frozen_weights(
    rule: LoRARule, frozen: str, what: str, toy_model: Path, tmp_path: Path
) -> None:
    """They are in no broadcast: they follow from the seed, which may be another one by mistake."""

    def fit(rounds: int, change: float = 0.0) -> None:
        backbone = toy_backbone(toy_model)
        with torch.no_grad():
            for name, value in backbone.trainable().items():
                if frozen in name:
                    value.add_(change)
        trainer = toy_trainer(tmp_path, max_rounds=rounds, local_steps=1)
        module = FedAvg(backbone, rule, optimizer=fast_adamw, warmup_steps=0)
        trainer.fit(module, toy_data(), "last" if rounds > 1 else None)

    fit(1)
    with pytest.raises(
        ValueError,
        match=rf"{type(rule).__name__} expects the frozen {what} of the run, .* same `seed",
    ):
        fit(2, change=0.1)
    fit(2)
