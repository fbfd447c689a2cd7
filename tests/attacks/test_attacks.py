"""Attacks on uploads: what they send, and whom they act on."""

from typing import Any

import pytest
import torch

from lit_fed import Payload
from lit_fed.attacks import BoostedUpdate, Neurotoxin, RandomUpdate, SignFlip, UpdateAttack
from lit_fed.client import Client
from lit_fed.compression import EightBit, HalfPrecision
from lit_fed.configuration_error import ConfigurationError

IDS = [f"c{i}" for i in range(10)]


def client(name: str = "c0", round: int = 0) -> Client:
    return Client(name, int(name[1:]), 8, round=round, rounds=round, steps=0)


def payloads() -> tuple[Payload, Payload]:
    generator = torch.Generator().manual_seed(0)
    before = {"w": torch.randn(3, 4, generator=generator), "v": torch.randn(5, generator=generator)}
    after = {
        name: value + torch.randn(value.shape, generator=generator)
        for name, value in before.items()
    }
    more = {"count": torch.tensor([3])}
    parts = {"consensus": Payload({"probs": torch.ones(2)})}
    return Payload({**after, **more}, {"texts": ["a"]}, parts), Payload(
        {**before, "count": torch.tensor([1])}
    )


@pytest.mark.parametrize(
    ("attack", "factor"),
    [
        (SignFlip(clients=["c0"]), -1.0),
        (SignFlip(3.0, ["c0"]), -3.0),
        (BoostedUpdate(100.0, ["c0"]), 100.0),
    ],
)
def test_a_change_is_multiplied(attack: UpdateAttack, factor: float) -> None:
    sent, before = payloads()
    found, memory = attack.upload(client(), sent, before, Payload())
    assert memory == Payload()
    for name in ("w", "v"):
        old = before.tensors[name].double()
        expected = (old + factor * (sent.tensors[name].double() - old)).float()
        assert torch.equal(found.tensors[name], expected)
    # what is no floating tensor, and what is no weight
    assert int(found.tensors["count"]) == 3
    assert found.parts == sent.parts
    assert found.strings == sent.strings
    assert list(found.tensors) == list(sent.tensors)


@pytest.mark.parametrize("kind", [SignFlip, BoostedUpdate, RandomUpdate])
def test_what_is_no_change_of_the_broadcast_is_refused(kind: Any) -> None:
    sent, before = payloads()
    attack = kind(clients=["c0"])
    with pytest.raises(
        ConfigurationError, match="expects clients to send weights, but 'c0' sends none"
    ):
        attack.upload(client(), Payload(), before, Payload())
    for other in (before.select(["w"]), Payload({**before.tensors, "v": torch.ones(2)})):
        with pytest.raises(ConfigurationError, match="'c0' sends 'v', which it has not downloaded"):
            attack.upload(client(), sent, other, Payload())
    for compression in (HalfPrecision(), EightBit()):
        small, _ = compression.upload(client(), sent, before, Payload())
        with pytest.raises(ConfigurationError, match="name attacks before what compresses uploads"):
            attack.upload(client(), small, before, Payload())


def length(a: Payload, b: Payload) -> float:
    return float(
        torch.cat([(a.tensors[n] - b.tensors[n]).flatten() for n in ("w", "v")]).double().norm()
    )


def test_noise_is_as_long_as_the_change_and_drawn_by_client_and_round() -> None:
    sent, before = payloads()
    attack = RandomUpdate(scale=0.5, count=3, seed=1)
    found, _ = attack.upload(client(), sent, before, Payload())
    assert length(found, before) == pytest.approx(0.5 * length(sent, before), rel=1e-6)
    assert attack.upload(client(), sent, before, Payload())[0] == found
    others = [
        (attack, client("c1")),
        (attack, client(round=1)),
        (RandomUpdate(0.5, ["c0"]), client()),
    ]
    for other, who in others:
        assert other.upload(who, sent, before, Payload())[0] != found
    nobody, _ = attack.upload(client(), before, before, Payload())
    assert length(nobody, before) == 0


def test_who_is_malicious_is_drawn_once() -> None:
    drawn = {}
    for seed in (0, 1):
        attack = SignFlip(count=3, seed=seed)
        attack.setup(IDS)
        drawn[seed] = attack.clients
        attack.setup(IDS)
        assert attack.clients == drawn[seed]
        assert sum(attack.acts_on(client(name)) for name in IDS) == 3
    assert drawn[0] != drawn[1]
    with pytest.warns(UserWarning, match="SignFlip makes all 2 clients malicious"):
        SignFlip(count=2).setup(IDS[:2])
    share = SignFlip(count=0.3)
    share.setup(IDS)
    assert share.clients == drawn[0]
    least = SignFlip(count=0.01)
    least.setup(IDS)
    assert len(least.clients or ()) == 1
    named = SignFlip(clients=["c4"])
    named.setup(IDS)
    assert [name for name in IDS if named.acts_on(client(name))] == ["c4"]


@pytest.mark.parametrize("kind", [SignFlip, BoostedUpdate, RandomUpdate, Neurotoxin])
def test_an_attack_ends(kind: Any) -> None:
    attack = kind(clients=["c0"], until=2)
    assert [attack.acts_on(client(round=round)) for round in range(4)] == [True, True, False, False]
    assert not attack.acts_on(client("c1"))
    with pytest.raises(ValueError, match=f"{kind.__name__}.until` is expected to be at least 1"):
        kind(clients=["c0"], until=0)


@pytest.mark.parametrize("kind", [SignFlip, BoostedUpdate, RandomUpdate, Neurotoxin])
def test_nobody_and_a_seed_below_0_are_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match="expects `clients` to name one at least, or null, but"):
        kind(clients=[])
    with pytest.raises(ValueError, match=f"{kind.__name__}.seed` is expected to be at least 0"):
        kind(count=1, seed=-1)


@pytest.mark.parametrize("kind", [SignFlip, BoostedUpdate, RandomUpdate])
def test_settings_out_of_range_are_refused(kind: Any) -> None:
    name = kind.__name__
    with pytest.raises(
        ValueError, match=f"{name} expects either `clients` or `count`, but got none"
    ):
        kind()
    with pytest.raises(
        ValueError, match=f"{name} expects either `clients` or `count`, but got both"
    ):
        kind(clients=["c0"], count=1)
    with pytest.raises(
        ValueError, match=f"{name} expects `count` as a share to be above 0 and at most 1"
    ):
        kind(count=1.5)
    with pytest.raises(ValueError, match="count` is expected to be at least 1, but got 0"):
        kind(count=0)
    with pytest.raises(ValueError, match="is expected to be finite and above 0, but got 0"):
        kind(0, ["c0"])
    with pytest.raises(
        ValueError,
        match=f"{name} expects `count` to be at most the 10 clients there are, but got 11",
    ):
        kind(count=11).setup(IDS)
