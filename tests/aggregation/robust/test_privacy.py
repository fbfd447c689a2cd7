"""Noise on clipped changes: what it is drawn from, and its ε beside closed forms."""

import importlib.util
import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import norm

from lit_fed import Payload
from lit_fed.aggregation import NormClipping
from lit_fed.aggregation.robust import Coordinates, PrivacyAccount
from lit_fed.update import Update
from tests.aggregation.robust.rounds import dense, products, random_round


def best_order(rdp: dict[float, float], delta: float) -> float:
    """ε of the best Rényi order, Balle et al., 2020, https://arxiv.org/abs/1905.09982, Theorem 21."""
    return min(
        epsilon + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
        for order, epsilon in rdp.items()
    )


def exact_epsilon(sigma: float, rounds: int, delta: float) -> float:
    """ε of the Gaussian mechanism itself, Balle and Wang, 2018, https://arxiv.org/abs/1805.06530, Theorem 8."""
    mu = math.sqrt(rounds) / sigma

    def off(epsilon: float) -> float:
        a, b = mu / 2 - epsilon / mu, -mu / 2 - epsilon / mu
        return float(norm.cdf(a) - math.exp(epsilon) * norm.cdf(b) - delta)

    return float(brentq(off, 0, 200))


@pytest.mark.parametrize("sigma", [0.7, 1.0, 4.0])
def test_without_sampling_epsilon_is_the_gaussian_mechanisms(sigma: float) -> None:
    account, delta = PrivacyAccount(sigma, 1.0, 1e-5), 1e-5
    for rounds in (1, 2, 3, 4, 5):
        found = account.step()
        orders = np.arange(1.01, 80, 0.01)
        expected = best_order({a: rounds * a / (2 * sigma**2) for a in orders}, delta)
        assert found == pytest.approx(expected, rel=2e-3)
        assert (
            exact_epsilon(sigma, rounds, delta) < found < 1.2 * exact_epsilon(sigma, rounds, delta)
        )


def test_with_sampling_epsilon_is_the_sampled_gaussian_mechanisms() -> None:
    sigma, rate, delta, rounds = 1.1, 0.1, 1e-4, 20
    account = PrivacyAccount(sigma, rate, delta)
    for _ in range(rounds):
        found = account.step()
    # Mironov et al., 2019, https://arxiv.org/abs/1908.10530, §3.3: E of a power of the ratio of densities
    z = np.linspace(-20 * sigma, 60 * sigma, 400_001)
    ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * z - 1) / (2 * sigma**2))
    rdp = {}
    for order in [*np.arange(1.1, 10.95, 0.1), *range(12, 64)]:
        power = logsumexp(norm.logpdf(z, scale=sigma) + order * ratio) + math.log(z[1] - z[0])
        rdp[float(order)] = rounds * power / (order - 1)
    assert found == pytest.approx(best_order(rdp, delta), rel=1e-6)


def noisy(sigma: float = 1.0, bound: float = 2.0, **more: float) -> NormClipping:
    return NormClipping(bound, noise_multiplier=sigma, geometry=Coordinates(), **more)


def test_noise_is_the_bound_over_the_number_of_clients() -> None:
    size, before = 40000, Payload({"w": torch.zeros(40000)})
    sent = [Update(f"c{i}", before, num_samples=i + 1) for i in range(5)]
    rule = noisy(sigma=1.5, bound=2.0)
    torch.manual_seed(0)
    found = rule(sent, before).tensors["w"]
    assert float(found.std()) == pytest.approx(1.5 * 2.0 / 5, rel=0.02)
    assert abs(float(found.mean())) < 5 * 0.6 / size**0.5
    assert rule.metrics()["server/epsilon"] == pytest.approx(PrivacyAccount(1.5, 1, 1e-5).step())
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
    with pytest.raises(ValueError, match="NormClipping is expected to be empty"):
        NormClipping(1.0).load_state(rule.state())


def test_another_noise_is_another_row_of_the_account() -> None:
    first, second = PrivacyAccount(1.0, 0.5, 1e-5), PrivacyAccount(2.0, 0.5, 1e-5)
    first.step()
    first.step()
    second.load_state(first.state())
    both = second.step()
    assert second.state().tensors["history"].tolist() == [[1.0, 0.5, 2.0], [2.0, 0.5, 1.0]]
    assert both > PrivacyAccount(2.0, 0.5, 1e-5).step()


def test_without_opacus_noise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "lit_fed.aggregation.robust.privacy.find_spec",
        lambda name: None if name == "opacus" else find(name),
    )
    NormClipping(1.0)
    with pytest.raises(
        ModuleNotFoundError, match=r"expects Opacus.*pip install 'lit_fed\[privacy\]'"
    ):
        noisy()
