"""What the settings of DP-SGD must fulfil, and how much noise a target takes."""

import importlib.util
from typing import Any

import pytest
import torch
from opacus.accountants import RDPAccountant
from torch import nn

from lit_fed.privacy import DPSGD


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"noise_multiplier` and .* is expected to be a number .*, but got None and None"),
        ({"noise_multiplier": 1.0, "target_epsilon": 8.0}, r"but got 1.0 and 8.0"),
        ({"noise_multiplier": 0.0}, r"`trainer.privacy.noise_multiplier` .* above 0, but got 0.0"),
        ({"target_epsilon": -1.0}, r"`trainer.privacy.target_epsilon` .* above 0, but got -1.0"),
        (
            {"noise_multiplier": 1.0, "max_grad_norm": 0},
            r"`trainer.privacy.max_grad_norm` .* got 0",
        ),
        ({"noise_multiplier": 1.0, "delta": 1.0}, r"`trainer.privacy.delta` .* between 0 and 1"),
        ({"noise_multiplier": 1.0, "accountant": "gdp"}, r"'rdp' or 'prv', but got 'gdp'"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DPSGD(**settings)


def test_without_opacus_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "lit_fed.privacy.account.find_spec", lambda n: None if n == "opacus" else find(n)
    )
    with pytest.raises(ModuleNotFoundError, match=r"`trainer.privacy` expects Opacus.*privacy\]'"):
        DPSGD(noise_multiplier=1.0)


@pytest.mark.parametrize(
    ("target", "rate", "steps"), [(8.0, 0.1, 100), (1.0, 0.25, 20), (0.3, 0.02, 40)]
)
def test_the_noise_of_a_target_spends_it_and_no_more(
    target: float, rate: float, steps: int
) -> None:
    sigma = DPSGD(target_epsilon=target).noise(rate, steps)
    accountant = RDPAccountant()
    accountant.history = [(sigma, rate, steps)]
    assert 0.97 * target < accountant.get_epsilon(delta=1e-5) <= target
    assert DPSGD(noise_multiplier=3.0).noise(rate, steps) == 3.0


def test_a_target_that_no_noise_reaches_is_named() -> None:
    with pytest.raises(ValueError, match=r"`trainer.privacy.target_epsilon` .* but got 1e-09"):
        DPSGD(target_epsilon=1e-9).noise(1.0, 10**6)


def test_models_whose_rows_change_each_other_are_refused() -> None:
    privacy = DPSGD(noise_multiplier=1.0)
    with pytest.raises(ValueError, match=r"do not change each other, but it has BatchNorm1d \(1\)"):
        privacy.check_model(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    checkpointed = nn.Linear(2, 2)
    checkpointed.gradient_checkpointing = True  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"gradient_checkpointing` is expected to be false"):
        privacy.check_model(checkpointed)
    privacy.check_model(nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)))


def test_delta_is_below_one_over_the_rows() -> None:
    privacy = DPSGD(noise_multiplier=1.0, delta=0.01)
    privacy.check_rows("ward", 99)
    with pytest.raises(ValueError, match=r"below one over .*, 100 of 'ward', but got 0\.01"):
        privacy.check_rows("ward", 100)


def test_only_in_secure_mode_draws_are_others_each_time() -> None:
    def drawn(privacy: DPSGD) -> list[float]:
        cpu = torch.device("cpu")
        return [float(torch.rand(1, generator=privacy.generator(cpu, 7))) for _ in range(2)]

    first, second = drawn(DPSGD(noise_multiplier=1.0))
    assert first == second
    first, second = drawn(DPSGD(noise_multiplier=1.0, secure_mode=True))
    assert first != second


@pytest.mark.parametrize("rows", [1, 2, 100, 10**4, 99_999, 10**5, 10**5 + 1, 10**6, 10**12])
def test_the_default_delta_is_below_one_over_the_rows(rows: int) -> None:
    privacy = DPSGD(noise_multiplier=1.0)
    delta = privacy.delta_of(rows)
    assert 0 < delta <= 1e-5
    assert delta == 1e-5 or rows >= 10**5
    DPSGD(noise_multiplier=1.0, delta=delta).check_rows("ward", rows)
