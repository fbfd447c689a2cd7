"""Noise on clipped changes: what it is drawn from, and the account of it; ε itself is tested in tests/privacy."""

import importlib.util
import math
from typing import Any

import numpy as np
import pytest
import torch

from lit_fed import Payload
from lit_fed.aggregation import NormClipping
from lit_fed.aggregation.robust import Coordinates
from lit_fed.privacy import PrivacyAccount
from lit_fed.update import Update
from tests.aggregation.robust.rounds import dense, products, random_round


def noisy(sigma: float = 1.0, bound: float = 2.0, **more: Any) -> NormClipping:
    return NormClipping(bound, noise_multiplier=sigma, geometry=Coordinates(), **more)


def test_noise_is_the_bound_over_the_number_of_clients() -> None:
    size, before = 40000, Payload({"w": torch.zeros(40000)})
    sent = [Update(f"c{i}", before, num_samples=i + 1) for i in range(5)]
    rule = noisy(sigma=1.5, bound=2.0)
    torch.manual_seed(0)
    found = rule(sent, before).tensors["w"]
    assert float(found.std()) == pytest.approx(1.5 * 2.0 / 5, rel=0.02)
    assert abs(float(found.mean())) < 5 * 0.6 / size**0.5
    account = PrivacyAccount(delta=1e-5)
    account.step(noise_multiplier=1.5, sample_rate=1.0)
    assert rule.metrics()["server/epsilon"] == pytest.approx(account.epsilon())
    assert rule.metrics()["server/norm_clipping/clipped"] == 0


@pytest.mark.parametrize("over_products", [False, True])
def test_without_one_client_the_sum_moves_by_the_bound_at_most(over_products: bool) -> None:
    """The sensitivity that the noise is measured by: one client's change is taken for none."""
    one = random_round(6, seed=0)
    rule = NormClipping(0.5, geometry=products() if over_products else Coordinates())
    for i in range(6):
        changes = rule._acting.changes(one.updates, one.previous)
        norms = changes.norms()
        scales = torch.where(norms > 0.5, 0.5 / norms, 1.0)
        without = scales.clone()
        without[i] = 0
        inner = changes.inner_products()
        moved = (scales - without) @ inner @ (scales - without)
        assert float(moved) ** 0.5 <= 0.5 * (1 + 1e-12)


def test_noise_over_products_is_on_the_weights() -> None:
    one = random_round(4, seed=1)
    rule = NormClipping(2.0, noise_multiplier=1.0, geometry=products())
    torch.manual_seed(3)
    first = rule(one.updates, one.previous)
    torch.manual_seed(3)
    assert rule(one.updates, one.previous) == first
    assert np.linalg.norm(dense(first, True) - dense(rule(one.updates, one.previous), True)) > 0.5


def test_the_account_goes_on_where_it_was() -> None:
    one = random_round(4, seed=2)
    rule = noisy()
    assert rule.state() == Payload()
    spent = []
    for _ in range(4):
        rule(one.updates, one.previous)
        spent.append(rule.metrics()["server/epsilon"])
    assert spent == sorted(set(spent))
    fresh = noisy()
    for expected in spent:
        state = fresh.state()
        fresh = noisy()
        fresh.load_state(Payload.from_bytes(state.to_bytes()))
        fresh(one.updates, one.previous)
        assert fresh.metrics()["server/epsilon"] == expected
    fresh.load_state(Payload())
    fresh(one.updates, one.previous)
    assert fresh.metrics()["server/epsilon"] == spent[0]


def test_rounds_without_noise_count() -> None:
    """Whoever has seen their broadcasts has seen them, whatever comes later."""
    one = random_round(4, seed=2)
    without = NormClipping(2.0, geometry=Coordinates())
    without(one.updates, one.previous)
    assert "server/epsilon" not in without.metrics()
    later = noisy()
    later.load_state(Payload.from_bytes(without.state().to_bytes()))
    later(one.updates, one.previous)
    assert later.metrics()["server/epsilon"] == math.inf
    # between rounds with noise as well
    first, between, last = noisy(), NormClipping(2.0, geometry=Coordinates()), noisy()
    for before, rule in ((None, first), (first, between), (between, last)):
        rule.load_state(Payload() if before is None else before.state())
        rule(one.updates, one.previous)
    assert math.isfinite(first.metrics()["server/epsilon"])
    assert last.metrics()["server/epsilon"] == math.inf


def test_another_rules_state_is_no_account() -> None:
    with pytest.raises(ValueError, match=r"NormClipping is expected to be its own: .* holds 'v/w'"):
        noisy().load_state(Payload({"v/w": torch.ones(1)}))


@pytest.mark.parametrize("over_products", [False, True])
def test_in_secure_mode_the_seed_does_not_tell_the_noise(over_products: bool) -> None:
    one = random_round(4, seed=1)

    def broadcast(secure: bool) -> Payload:
        geometry = products() if over_products else Coordinates()
        rule = NormClipping(2.0, noise_multiplier=1.0, geometry=geometry, secure_mode=secure)
        torch.manual_seed(3)
        return rule(one.updates, one.previous)

    assert broadcast(secure=False) == broadcast(secure=False)
    found = broadcast(secure=True)
    again = broadcast(secure=True)
    for name, tensor in found.tensors.items():
        if tensor.is_floating_point():
            assert not torch.equal(tensor, again.tensors[name]), name


def test_noise_of_secure_mode_is_as_large() -> None:
    before = Payload({"w": torch.zeros(40000)})
    sent = [Update(f"c{i}", before, num_samples=i + 1) for i in range(5)]
    found = noisy(sigma=1.5, bound=2.0, secure_mode=True)(sent, before).tensors["w"]
    assert float(found.std()) == pytest.approx(1.5 * 2.0 / 5, rel=0.03)
    assert abs(float(found.mean())) < 5 * 0.6 / 40000**0.5


def test_without_opacus_noise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "lit_fed.privacy.account.find_spec",
        lambda name: None if name == "opacus" else find(name),
    )
    NormClipping(1.0)
    with pytest.raises(
        ModuleNotFoundError, match=r"expects Opacus.*pip install 'lit_fed\[privacy\]'"
    ):
        noisy()
