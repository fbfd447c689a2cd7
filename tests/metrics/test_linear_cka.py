import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_fed.metrics import debiased_linear_cka


def reference_cka(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """With the n by n Gram matrices, as Song et al. (2012), equation 5, writes HSIC_1."""

    def hsic(k: NDArray[np.float64], m: NDArray[np.float64]) -> float:
        n, one = len(k), np.ones(len(k))
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        terms = (
            np.trace(k @ m)
            + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (one @ k @ m @ one)
        )
        return float(terms / (n * (n - 3)))

    k, m = x @ x.T, y @ y.T
    return float(hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m)))


def features(n: int, *widths: int, seed: int = 0) -> list[Tensor]:
    """Related features, off centre."""
    generator = torch.Generator().manual_seed(seed)
    cause = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return [
        cause @ torch.randn(3, width, generator=generator, dtype=torch.float64)
        + torch.randn(n, width, generator=generator, dtype=torch.float64)
        + 5
        for width in widths
    ]


@pytest.mark.parametrize(("n", "d", "e"), [(4, 3, 2), (50, 7, 7), (50, 1, 9), (20, 200, 90)])
def test_equals_the_definition(n: int, d: int, e: int) -> None:
    x, y = features(n, d, e)
    expected = reference_cka(x.numpy(), y.numpy())
    assert debiased_linear_cka(x, y).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(50, 7), (20, 200)])
@pytest.mark.parametrize("chunk_size", [1, 3, 64])
def test_chunks_change_nothing(n: int, d: int, chunk_size: int) -> None:
    x, y = features(n, d, d + 1)
    torch.testing.assert_close(debiased_linear_cka(x, y, chunk_size), debiased_linear_cka(x, y))


def test_invariances() -> None:
    x, y = features(60, 10, 8)
    expected = debiased_linear_cka(x, y)
    rotation = torch.linalg.qr(torch.randn(10, 10, dtype=torch.float64)).Q
    order = torch.randperm(60)
    torch.testing.assert_close(debiased_linear_cka(x @ rotation, y), expected)
    torch.testing.assert_close(debiased_linear_cka(-1e-6 * x, 1e6 * y), expected)
    torch.testing.assert_close(debiased_linear_cka(x + 100, y - torch.arange(8)), expected)
    torch.testing.assert_close(debiased_linear_cka(x[order], y[order]), expected)
    torch.testing.assert_close(debiased_linear_cka(y, x), expected)
    torch.testing.assert_close(
        debiased_linear_cka(torch.cat([x, torch.zeros(60, 5)], dim=1), y), expected
    )


def test_not_invariant_to_any_linear_map() -> None:
    x, y = features(60, 10, 8)
    stretch = torch.diag(torch.logspace(-2, 2, 10, dtype=torch.float64))
    assert (debiased_linear_cka(x @ stretch, y) - debiased_linear_cka(x, y)).abs() > 0.05


def test_same_features_give_1() -> None:
    (x,) = features(30, 100)
    assert debiased_linear_cka(x, x).item() == pytest.approx(1.0, abs=1e-12)


def test_about_0_for_independent_noise_where_the_biased_one_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    values, biased = [], []
    for _ in range(20):
        x, y = torch.randn(2, 64, 512, generator=generator, dtype=torch.float64)
        values.append(debiased_linear_cka(x, y).item())
        x, y = x - x.mean(0), y - y.mean(0)
        norms = (x.T @ x).norm() * (y.T @ y).norm()
        biased.append(((x.T @ y).square().sum() / norms).item())
    assert abs(np.mean(values)) < 0.02
    assert np.mean(biased) > 0.8


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e6 / 3])
def test_constant_features_give_0(value: float) -> None:
    x, y = torch.full((1000, 5), value), torch.randn(1000, 5)
    assert debiased_linear_cka(x, y).item() == 0.0
    assert debiased_linear_cka(x, x).item() == 0.0


@pytest.mark.parametrize("n", [4, 10, 1000])
def test_single_outlier_gives_0(n: int) -> None:
    # Between probes, every product is 0: the unbiased estimate is 0/0.
    x = torch.zeros(n, 3)
    x[1] = torch.tensor([0.1, 0.7, 3.0])
    assert debiased_linear_cka(x, x).item() == 0.0


def test_infinity_and_nan_are_not_hidden() -> None:
    x = torch.randn(10, 3)
    y = x.clone()
    y[0, 0] = float("nan")
    assert debiased_linear_cka(x, y).isnan()
    y[0, 0] = float("inf")
    assert debiased_linear_cka(x, y).isnan()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_gives_float32(dtype: torch.dtype) -> None:
    x, y = (f.to(dtype) for f in features(40, 6, 6))
    value = debiased_linear_cka(x, y)
    assert value.dtype == torch.float32
    expected = reference_cka(x.double().numpy(), y.double().numpy())
    assert value.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("n", "d"), [(8, 2), (5, 12)])
def test_gradient(n: int, d: int) -> None:
    x, y = (f.requires_grad_() for f in features(n, d, d))
    assert torch.autograd.gradcheck(debiased_linear_cka, (x, y))


def test_gradient_of_constant_features_is_finite() -> None:
    x = torch.ones(8, 2, requires_grad=True)
    debiased_linear_cka(x, torch.randn(8, 2)).backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="are expected to have at least 4 probes, but have 3"):
        debiased_linear_cka(torch.ones(3, 2), torch.ones(3, 2))
    with pytest.raises(ValueError, match=re.escape("same probes, but have [5, 2] and [4, 2]")):
        debiased_linear_cka(torch.ones(5, 2), torch.ones(4, 2))
    with pytest.raises(ValueError, match=re.escape("[probes, width] with the same probes, but")):
        debiased_linear_cka(torch.ones(5, 2, 2), torch.ones(5, 2))
    with pytest.raises(ValueError, match="`chunk_size` is expected to be at least 1, but got 0"):
        debiased_linear_cka(torch.ones(5, 2), torch.ones(5, 2), chunk_size=0)
