import re

import numpy as np
import pytest
import torch

from lit_fed.metrics import ClientFairness, client_spread, jain_index


def computed(accuracies: list[float], num_clients: int = 0) -> dict[str, float]:
    fairness = ClientFairness(num_clients or len(accuracies))
    for client, accuracy in enumerate(accuracies):
        # Clients of different sizes count the same.
        fairness.update(accuracy, client, weight=1 + 7 * client)
    return {name: value.item() for name, value in fairness.compute().items()}


def test_equals_numpy() -> None:
    accuracies = np.random.default_rng(0).uniform(size=30)
    percent = 100 * accuracies
    expected = {
        "mean": percent.mean(),
        "variance": np.var(percent),
        "std": np.std(percent),
        "worst": percent.min(),
        "gap": np.ptp(percent),
        "jain": accuracies.sum() ** 2 / (30 * (accuracies**2).sum()),
    }
    assert computed(accuracies.tolist()) == pytest.approx(expected, rel=1e-4)


def test_batches_of_one_client() -> None:
    fairness = ClientFairness(2)
    for batch in ([True, False], [True, True]):
        fairness.update(torch.tensor(batch), client=1)
    fairness.update(0.25, client=0)
    assert fairness.compute()["gap"].item() == 50.0


def test_equal_clients() -> None:
    values = computed([0.5, 0.5, 0.5])
    assert values["std"] == values["variance"] == values["gap"] == 0.0
    assert values["jain"] == pytest.approx(1.0)


def test_one_client_has_all() -> None:
    assert computed([1.0, 0.0, 0.0, 0.0])["jain"] == 0.25


def test_nobody_has_anything() -> None:
    assert computed([0.0, 0.0])["jain"] == 0.0


def test_one_client() -> None:
    expected = {"mean": 50, "variance": 0, "std": 0, "worst": 50, "gap": 0, "jain": 1}
    assert computed([0.5]) == expected


def test_clients_never_evaluated_are_left_out() -> None:
    assert computed([0.5, 1.0], num_clients=10) == computed([0.5, 1.0])


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_empty() -> None:
    values = ClientFairness(3).compute()
    assert set(values) == {"mean", "variance", "std", "worst", "gap", "jain"}
    assert all(bool(value.isnan()) for value in values.values())


def test_jain_is_invariant_to_scale_and_order() -> None:
    values = torch.rand(20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(jain_index(50 * values.flip(0)), jain_index(values))


def test_spread_is_invariant_to_a_shift() -> None:
    values = torch.rand(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moved, spread = client_spread(values + 1), client_spread(values)
    for name in ("variance", "std", "gap"):
        torch.testing.assert_close(moved[name], spread[name])


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="`client` is expected to be an integer from 0 to 1, but"):
        ClientFairness(2).update(1.0, client=2)
    with pytest.raises(ValueError, match="`num_clients` is expected to be at least 1, but got 0"):
        ClientFairness(0)
    with pytest.raises(ValueError, match=re.escape("to have shape [clients], got [2, 2]")):
        jain_index(torch.eye(2))
    with pytest.raises(ValueError, match=re.escape("to have shape [clients], got []")):
        client_spread(torch.tensor(1.0))


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (torch.float16, [90.0] * 10),
        (torch.float16, [300.0, 200.0, 60000.0]),
        (torch.bfloat16, [90.0, 60.0, 33.0]),
        (torch.int32, [50000, 50000]),
        (torch.int64, [2**40, 1, 0]),
        (torch.uint8, [200, 100, 255]),
        (torch.bool, [1, 1, 0]),
        (torch.float32, [1e-25] * 3),
        (torch.float32, [1e-25, 0.0, 3e-25]),
        (torch.float32, [1e25, 2e25]),
        (torch.float32, [0.0, 0.0]),
        (torch.float32, [0.2, 0.5, 0.9]),
    ],
)
def test_jain_of_any_dtype(dtype: torch.dtype, values: list[float]) -> None:
    given = torch.tensor(values, dtype=dtype)
    wide = given.double().numpy()
    squares = len(wide) * (wide**2).sum()
    expected = wide.sum() ** 2 / squares if squares else 0.0
    assert jain_index(given).item() == pytest.approx(expected, rel=1e-6)
    assert jain_index(given.double()).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "dtype", [torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32]
)
def test_spread_of_any_dtype(dtype: torch.dtype) -> None:
    given = torch.tensor([60, 80, 200], dtype=dtype)
    spread, wide = client_spread(given), client_spread(given.double())
    for name, value in spread.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(wide[name].item(), rel=1e-6), name
    assert client_spread(given[:0])["mean"].isnan()
    assert jain_index(given[:0]).isnan()


def test_jain_refuses_what_is_negative() -> None:
    with pytest.raises(ValueError, match=r"`values` are expected to be at least 0, but got -0\.5"):
        jain_index(torch.tensor([1.0, -0.5]))
