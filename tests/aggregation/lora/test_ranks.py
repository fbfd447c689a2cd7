"""Adapters of other ranks and alphas, and which client has which."""

from pathlib import Path

import pytest
from peft import LoraConfig

from lit_fed import FedAvg
from lit_fed.aggregation import FlexLoRA
from lit_fed.aggregation.lora.ranks import ClientAdapters
from lit_fed.backbones import SequenceClassifier
from lit_fed.client import Client
from tests.federation.toy import toy_backbone, toy_data, toy_trainer


def client(name: str) -> Client:
    return Client(name, 0, 8, round=0, rounds=0, steps=0)


def test_one_adapter_for_each_pair_of_rank_and_alpha(toy_model: Path) -> None:
    config = LoraConfig(
        r=6,
        lora_alpha=9,
        use_rslora=True,
        target_modules=["query", "dense"],
        rank_pattern={"dense": 3},
        alpha_pattern={"dense": 5},
        lora_dropout=0.25,
    )
    backbone = SequenceClassifier(str(toy_model), peft=config)
    clients = ClientAdapters({"a": 2, "b": 2, "c": 4, "d": 6}, {"b": 3, "e": 1.5, "d": 9})
    assert not clients.mixed
    clients.setup(backbone, "Rule")
    assert clients.mixed
    names = {name: clients.adapter(client(name)) for name in "abcdef"}
    assert names == {
        "a": "rank_2_alpha_9",
        "b": "rank_2_alpha_3",
        "c": "rank_4_alpha_9",
        "d": "default",
        "e": "alpha_1_5",
        "f": "default",
    }
    assert clients.adapter(None) == "default"
    assert set(backbone.adapters) == set(names.values())
    heads = {n for n in backbone.trainable() if "lora" not in n}
    for name, (rank, alpha) in {"a": (2, 9), "b": (2, 3), "c": (4, 9), "e": (6, 1.5)}.items():
        held = backbone.trainable(names[name])
        assert held.keys() == backbone.trainable().keys() > heads
        for layer, factors in clients.layout(name).factors(held).items():
            own = min(rank, 3) if "dense" in layer else rank
            assert len(factors.a) == factors.b.shape[1] == own
            expected = (5 if "dense" in layer else alpha) / own**0.5
            assert factors.scale == pytest.approx(expected, rel=1e-12)
    assert clients.layout("nobody") is clients.layout(None)


def test_alphas_that_differ_in_a_late_digit_are_different_adapters(toy_model: Path) -> None:
    config = LoraConfig(r=4, target_modules=["query"])
    backbone = SequenceClassifier(str(toy_model), peft=config)
    alphas = {"a": 1234567.0, "b": 1234568.0, "c": 1 / 3, "d": 1e6, "e": 1.2345678e-7, "f": 16.5}
    clients = ClientAdapters(alphas={**alphas, "g": 1.2345678e20})
    clients.setup(backbone, "Rule")
    assert {name: clients.adapter(client(name)) for name in "abcdefg"} == {
        "a": "alpha_1234567_0",
        "b": "alpha_1234568_0",
        "c": "alpha_0_3333333333333333",
        "d": "alpha_1e+06",
        "e": "alpha_1_2345678eminus07",
        "f": "alpha_16_5",
        "g": "alpha_1_2345678e20",
    }
    for name, alpha in alphas.items():
        held = backbone.trainable(clients.adapter(client(name)))
        scales = {f.scale for f in clients.layout(name).factors(held).values()}
        assert scales == {alpha / 4}


def test_a_client_s_rank_bounds_that_of_every_layer(toy_model: Path) -> None:
    config = LoraConfig(r=4, target_modules=["query", "dense"], rank_pattern={"dense": 6})
    backbone = SequenceClassifier(str(toy_model), peft=config)
    clients = ClientAdapters({"bounded": 4}, {"scaled": 3})
    clients.setup(backbone, "Rule")
    for name, dense in {"bounded": 4, "scaled": 6, "other": 6}.items():
        held = backbone.trainable(clients.adapter(client(name)))
        factors = clients.layout(name).factors(held)
        assert {len(f.a) for n, f in factors.items() if "dense" in n} == {dense}
        assert {len(f.a) for n, f in factors.items() if "dense" not in n} == {4}


@pytest.mark.parametrize(
    ("ranks", "alphas", "message"),
    [
        ({"a": 0}, None, r"`model\.aggregation\.ranks\.a` is expected to be at least 1, but got 0"),
        (None, {"a": 0.0}, r"`model\.aggregation\.alphas\.a` is expected to be .* above 0"),
        (None, {"a": float("nan")}, r"alphas\.a` is expected to be finite"),
    ],
)
def test_sizes_that_cannot_be_are_refused(
    ranks: dict[str, int] | None, alphas: dict[str, float] | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ClientAdapters(ranks, alphas)


@pytest.mark.parametrize("setting", ["ranks", "alphas"])
def test_clients_that_are_not_there_are_named_before_training(
    setting: str, toy_model: Path, tmp_path: Path
) -> None:
    data = toy_data()
    data.setup("fit")
    there = data.clients[0].id
    rule = FlexLoRA(**{setting: {there: 2, "nobody": 2, "none": 2}})
    trainer = toy_trainer(tmp_path)
    message = rf"`model.aggregation.{setting}` are expected .* among .*{there}.*got nobody, none$"
    with pytest.raises(ValueError, match=message):
        trainer.fit(FedAvg(toy_backbone(toy_model), rule), data)
    assert not list(tmp_path.glob("**/*.safetensors"))
