"""FlexLoRA beside peft's own changes of the weights, added up and decomposed as dense matrices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig

from lit_fed import Payload
from lit_fed.aggregation import FlexLoRA
from lit_fed.aggregation.lora.distance import DISTANCE, LoRADistance
from lit_fed.backbones import Backbone, CausalLM, SequenceClassifier
from lit_fed.client import Client
from lit_fed.update import Update
from tests.federation.toy import toy_backbone

Dense = dict[str, np.ndarray]
RANKS = {"b": 1, "c": 3, "d": 4}
ALPHAS = {"c": 10, "e": 1.5}
SIZES = {"a": 10, "b": 40, "c": 25, "d": 5, "e": 20}

CONFIGS: dict[str, tuple[str, Any]] = {
    "plain": ("bert", LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"])),
    "rank-stabilised": (
        "bert",
        LoraConfig(r=4, lora_alpha=8, use_rslora=True, target_modules=["query", "dense"]),
    ),
    "patterns": (
        "bert",
        LoraConfig(
            r=4,
            lora_alpha=8,
            target_modules=["query", "dense", "value"],
            rank_pattern={"dense": 6, "value": 2},
            alpha_pattern={"dense": 3},
        ),
    ),
    "embedding": ("bert", LoraConfig(r=4, target_modules=["word_embeddings", "query"])),
    "transposed": ("gpt2", LoraConfig(r=4, target_modules=["c_attn", "c_fc", "c_proj"])),
}


def made(name: str, tiny_model: Callable[..., str]) -> Backbone:
    kind, config = CONFIGS[name]
    folder, backbone = tiny_model(kind), None
    if kind == "gpt2":
        backbone = CausalLM(folder, peft=config)
    else:
        backbone = SequenceClassifier(folder, peft=config, num_labels=3)
    return backbone.to(torch.float64)


def as_client(name: str) -> Client:
    return Client(name, 0, SIZES.get(name, 1), round=1, rounds=0, steps=0)


def changes(backbone: Backbone, adapter: str) -> Dense:
    """What peft would add to each weight, in the shape in which it would add it."""
    return {
        name: module.get_delta_weight(adapter).detach().numpy().copy()
        for name, module in backbone.model.named_modules()
        if isinstance(scales := getattr(module, "scaling", None), dict) and adapter in scales
    }


def best(matrix: np.ndarray, rank: int) -> np.ndarray:
    u, s, vh = np.linalg.svd(matrix, full_matrices=False)
    approximation: np.ndarray = (u[:, :rank] * s[:rank]) @ vh[:rank]
    return approximation


def trained(
    backbone: Backbone, rule: FlexLoRA, names: list[str]
) -> tuple[list[Update], dict[str, Dense]]:
    """Updates of random values, and peft's changes of them."""
    updates, dense = [], {}
    for name in names:
        adapter = rule.adapter(as_client(name))
        with torch.no_grad():
            for value in backbone.trainable(adapter).values():
                value.copy_(torch.randn_like(value))
        dense[name] = changes(backbone, adapter)
        updates.append(Update(name, Payload(backbone.trainable(adapter)), SIZES[name]))
    return updates, dense


@pytest.mark.parametrize("case", CONFIGS)
@pytest.mark.parametrize("mixed", [False, True], ids=["one rank", "mixed"])
def test_every_client_gets_the_best_approximation_of_its_rank(
    case: str, mixed: bool, tiny_model: Callable[..., str]
) -> None:
    torch.manual_seed(0)
    backbone = made(case, tiny_model)
    rule = FlexLoRA(RANKS, ALPHAS) if mixed else FlexLoRA()
    rule.setup(backbone)
    backbone.to(torch.float64)
    assert rule.sends_everything is not mixed
    before = Payload(backbone.trainable())
    updates, dense = trained(backbone, rule, list(SIZES))
    after = rule(updates, before)
    assert after.tensors.keys() == before.tensors.keys()

    total = sum(SIZES.values())
    exact = {
        layer: sum(SIZES[k] / total * own[layer] for k, own in dense.items())
        for layer in dense["a"]
    }
    lengths = {layer: len(after.tensors[names.a]) for layer, names in rule.layout.weights.items()}
    backbone.load_trainable(after.tensors)
    found = changes(backbone, "default")
    assert found.keys() == exact.keys() == lengths.keys()
    for layer, matrix in found.items():
        expected = best(exact[layer], lengths[layer])
        np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-10)
    off = sum(np.sum((found[layer] - exact[layer]) ** 2) for layer in exact)
    size = sum(np.sum(matrix**2) for matrix in exact.values())
    distance = LoRADistance.of(backbone, rule)
    assert distance is not None
    told = distance.metrics(updates, rule.weights(updates), before.tensors, after)
    assert told == {DISTANCE: pytest.approx((off / size) ** 0.5, rel=1e-10)}
    assert 0 < told[DISTANCE] < 1

    for name in SIZES:
        client = as_client(name)
        own = rule.broadcast_to(client, after)
        assert (own is after) is (rule.adapter(client) == "default")
        backbone.load_trainable(own.tensors, rule.adapter(client))
        for layer, matrix in changes(backbone, rule.adapter(client)).items():
            rank = min(lengths[layer], RANKS.get(name, 99) if mixed else 99)
            expected = best(exact[layer], rank)
            np.testing.assert_allclose(matrix, expected, rtol=0, atol=1e-10)

    for name in rule.layout.others(list(after.tensors)):
        mean = sum(u.payload.tensors[name].numpy() * u.num_samples / total for u in updates)
        np.testing.assert_allclose(after.tensors[name].numpy(), mean, rtol=0, atol=1e-12)


def test_a_direction_that_nobody_has_used_can_still_be_trained(toy_model: Path) -> None:
    backbone = toy_backbone(toy_model)
    rule = FlexLoRA({"b": 1})
    rule.setup(backbone)
    before = Payload(backbone.trainable())
    updates, _ = trained(backbone, rule, ["b"])
    after = rule(updates, before)
    for names in rule.layout.weights.values():
        a, b = after.tensors[names.a], after.tensors[names.b]
        assert torch.count_nonzero(b[:, 1:]) == 0
        assert torch.equal(a[1:], before.tensors[names.a][1:])
        assert torch.count_nonzero(a[1:]) == a[1:].numel()
    zero = [Update(u.client_id, rule.broadcast_to(as_client("b"), before), 1) for u in updates]
    assert rule(zero, before) == before  # B is 0, and what has no change keeps its A


def test_a_large_sum_and_many_clients_are_the_same_sum(toy_model: Path) -> None:
    """More columns than the weight has: summed up as a matrix."""
    backbone = toy_backbone(toy_model)
    rule = FlexLoRA(weights="uniform")
    rule.setup(backbone)
    before = Payload(backbone.trainable())
    (one, *_), _ = trained(backbone, rule, ["a"])
    after = rule([one], before)
    again = rule([one] * 20, before)
    for layer, factors in rule.layout.factors(after.tensors).items():
        other = rule.layout.factors(again.tensors)[layer]
        torch.testing.assert_close(factors.b @ factors.a, other.b @ other.a, rtol=0, atol=1e-5)


def test_ranks_above_the_server_s_are_refused(toy_model: Path) -> None:
    message = (
        r"`model\.aggregation\.ranks\.b` is expected to be at most `model\.backbone\.peft\.r` 4, "
        r".*, but got 5$"
    )
    with pytest.raises(ValueError, match=message):
        FlexLoRA({"b": 5}).setup(toy_backbone(toy_model))


def test_an_alpha_of_0_is_refused(toy_model: Path) -> None:
    peft = LoraConfig(r=2, lora_alpha=0, target_modules=["query"])
    said = r"FlexLoRA expects `model\.backbone\.peft\.lora_alpha` to be other than 0, .*query is 0"
    with pytest.raises(ValueError, match=said):
        FlexLoRA().setup(SequenceClassifier(str(toy_model), peft=peft))


def test_factors_of_other_modules_are_refused_by_name(toy_model: Path) -> None:
    backbone = toy_backbone(toy_model)
    rule = FlexLoRA()
    rule.setup(backbone)
    before = Payload(backbone.trainable())
    lacking = {n: t for n, t in before.tensors.items() if "layer.1" not in n}
    updates = [Update("a", before, 1), Update("b", Payload(lacking), 1)]
    with pytest.raises(
        ValueError, match=r"client 'b' .*layer\.1\..* is missing, .* target modules"
    ):
        rule(updates, before)
    longer = {n: torch.cat([t, t]) if "lora_A" in n else t for n, t in before.tensors.items()}
    with pytest.raises(ValueError, match=r"client 'b' .* one rank r, but they are \[8, 32\] and"):
        rule([updates[0], Update("b", Payload(longer), 1)], before)
    with pytest.raises(ValueError, match="at least one client"):
        rule([], before)
