"""The account of noise: ε beside closed forms, beside Opacus' own, and as one long series of steps."""

import math
from typing import Literal

import numpy as np
import pytest
import torch
from opacus.accountants import PRVAccountant, RDPAccountant
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import norm

from lit_fed import Payload
from lit_fed.privacy import PrivacyAccount


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
    delta = 1e-5
    account = PrivacyAccount(delta)
    for rounds in (1, 2, 3, 4, 5):
        account.step(sigma, 1.0)
        found = account.epsilon()
        orders = np.arange(1.01, 80, 0.01)
        expected = best_order({a: rounds * a / (2 * sigma**2) for a in orders}, delta)
        assert found == pytest.approx(expected, rel=2e-3)
        assert (
            exact_epsilon(sigma, rounds, delta) < found < 1.2 * exact_epsilon(sigma, rounds, delta)
        )


@pytest.mark.slow
def test_with_sampling_epsilon_is_the_sampled_gaussian_mechanisms() -> None:
    sigma, rate, delta, rounds = 1.1, 0.1, 1e-4, 20
    account = PrivacyAccount(delta)
    for _ in range(rounds):
        account.step(sigma, rate)
    # Mironov et al., 2019, https://arxiv.org/abs/1908.10530, §3.3: E of a power of the ratio of densities
    z = np.linspace(-20 * sigma, 60 * sigma, 400_001)
    ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * z - 1) / (2 * sigma**2))
    rdp = {}
    for order in [*np.arange(1.1, 10.95, 0.1), *range(12, 64)]:
        power = logsumexp(norm.logpdf(z, scale=sigma) + order * ratio) + math.log(z[1] - z[0])
        rdp[float(order)] = rounds * power / (order - 1)
    assert account.epsilon() == pytest.approx(best_order(rdp, delta), rel=1e-6)


def test_epsilon_of_several_settings_is_opacus_own() -> None:
    account, history = PrivacyAccount(1e-5), [(1.0, 0.1, 30), (2.0, 0.25, 12), (0.9, 0.1, 5)]
    for row in history:
        account.step(*row)
    expected = RDPAccountant()
    expected.history = history
    assert account.epsilon() == pytest.approx(expected.get_epsilon(delta=1e-5), rel=1e-12)
    closer = PrivacyAccount(1e-5, "prv")
    closer.step(1.0, 0.1, 30)
    whole = PRVAccountant()
    whole.history = history[:1]
    assert closer.epsilon() == whole.get_epsilon(delta=1e-5)


def test_steps_of_one_setting_are_one_row_whatever_came_between() -> None:
    account = PrivacyAccount(1e-5)
    for sigma in (1.0, 2.0, 1.0):
        account.step(sigma, 0.5)
        account.step(sigma, 0.5, 3)
    assert account.state().tensors["history"].tolist() == [[1.0, 0.5, 8.0], [2.0, 0.5, 4.0]]
    before = account.epsilon()
    after = account.epsilon_after(1.0, 0.5, 2)
    assert account.epsilon() == before
    account.step(1.0, 0.5, 2)
    assert account.epsilon() == after > before


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_after_a_step_without_noise_no_epsilon_bounds_what_was_seen(
    accountant: Literal["rdp", "prv"],
) -> None:
    account, later = (PrivacyAccount(1e-5, accountant) for _ in range(2))
    assert account.epsilon_after(0.0, 0.5, 1) == math.inf
    account.step(0.0, 0.5)
    later.load_state(account.state())
    later.step(1.0, 0.5)
    assert later.epsilon() == math.inf


def test_what_is_no_account_is_refused() -> None:
    account = PrivacyAccount(1e-5)
    account.step(1.0, 0.5)
    history = account.state().tensors
    for other in (
        Payload({**history, "v/w": torch.ones(1)}),
        Payload({"v/w": torch.ones(1)}),
        Payload(history, {"v/w": ["x"]}),
        Payload(history, parts={"v/w": Payload(history)}),
    ):
        with pytest.raises(ValueError, match="to hold 'history' alone, but holds 'v/w'"):
            PrivacyAccount(1e-5).load_state(other)


def test_the_account_goes_on_where_it_was() -> None:
    first, second = PrivacyAccount(1e-5), PrivacyAccount(1e-5)
    assert first.state() == Payload()
    first.step(1.0, 0.5, 2)
    second.load_state(Payload.from_bytes(first.state().to_bytes()))
    second.step(2.0, 0.5)
    first.step(2.0, 0.5)
    assert second.epsilon() == first.epsilon()
    assert torch.equal(second.state().tensors["history"], first.state().tensors["history"])
    second.load_state(Payload())
    assert second.epsilon() == 0
