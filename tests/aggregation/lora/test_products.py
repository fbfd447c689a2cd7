"""Products of factors, beside dense matrices."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from lit_fed.aggregation.lora.factors import Factors
from lit_fed.aggregation.lora.products import Product, relative_distance


def random_factors(
    generator: np.random.Generator, ranks: Sequence[int], out: int, width: int
) -> list[Factors]:
    return [
        Factors(
            torch.tensor(generator.normal(size=(r, width))),
            torch.tensor(generator.normal(size=(out, r))),
            float(generator.uniform(0.5, 4)),
        )
        for r in ranks
    ]


def dense(terms: Sequence[Factors], coefficients: Sequence[float]) -> np.ndarray:
    total = np.zeros((terms[0].b.shape[0], terms[0].a.shape[1]))
    for term, c in zip(terms, coefficients, strict=True):
        total += c * term.scale * (term.b.numpy() @ term.a.numpy())
    return total


@pytest.mark.parametrize("out", [9, 23])
@pytest.mark.parametrize("width", [9, 14])
@pytest.mark.parametrize("ranks", [[2], [1, 3], [4, 4, 4, 4, 4]], ids=str)
def test_sum_norm_inner_and_truncation_are_those_of_the_matrix(
    out: int, width: int, ranks: list[int]
) -> None:
    generator = np.random.default_rng(out * 100 + width)
    terms = random_factors(generator, ranks, out, width)
    coefficients = list(generator.uniform(0.1, 1, size=len(ranks)))
    m = dense(terms, coefficients)
    product = Product.sum(terms, coefficients)
    assert product.rank <= max(sum(ranks[:1]), min(out, width))
    np.testing.assert_allclose(product.dense().numpy(), m, rtol=0, atol=1e-12)
    assert product.norm() == pytest.approx(np.linalg.norm(m), rel=1e-12)
    other = Product.sum(terms[:1], [1.0])
    expected = float((m * dense(terms[:1], [1.0])).sum())
    assert product.inner(other) == pytest.approx(expected, rel=1e-10)
    u, s, vh = np.linalg.svd(m)
    for rank in (1, 2, 20):
        b, a = product.truncated(rank)
        assert b.shape == (out, rank)
        assert a.shape == (rank, width)
        k = min(rank, len(s))
        best = (u[:, :k] * s[:k]) @ vh[:k]
        np.testing.assert_allclose((b @ a).numpy(), best, rtol=0, atol=1e-10)
    # nested: the first column and row are the best matrix of rank 1
    np.testing.assert_allclose(
        (b[:, :1] @ a[:1]).numpy(), s[0] * np.outer(u[:, 0], vh[0]), rtol=0, atol=1e-10
    )


def test_the_norm_of_a_difference_keeps_its_digits_where_terms_cancel() -> None:
    generator = np.random.default_rng(0)
    one = random_factors(generator, [4], 60, 50)[0]
    shifted = Factors(one.a, one.b + 1e-12 * torch.ones_like(one.b), one.scale)
    off = (Product.sum([shifted], [1.0]) - Product.sum([one], [1.0])).norm()
    expected = np.linalg.norm(dense([shifted], [1.0]) - dense([one], [1.0]))
    assert off == pytest.approx(expected, rel=1e-2)  # Gram matrices would give 1e-8 of the norm


def test_distance_is_over_all_weights_together() -> None:
    generator = np.random.default_rng(1)
    exact = [random_factors(generator, [3], 8, 6)[0], random_factors(generator, [3], 5, 20)[0]]
    found = [random_factors(generator, [3], 8, 6)[0], random_factors(generator, [3], 5, 20)[0]]
    off = sum(
        np.sum((dense([f], [1]) - dense([e], [1])) ** 2) for f, e in zip(found, exact, strict=True)
    )
    of = sum(np.sum(dense([e], [1]) ** 2) for e in exact)
    value = relative_distance(
        [Product.sum([f], [1.0]) for f in found], [Product.sum([e], [1.0]) for e in exact]
    )
    assert value == pytest.approx((off / of) ** 0.5, rel=1e-10)


def test_nothing_changed_is_no_distance() -> None:
    zero = Product.sum([Factors(torch.ones(2, 5), torch.zeros(4, 2), 1.0)], [1.0])
    one = Product.sum([Factors(torch.ones(2, 5), torch.ones(4, 2), 1.0)], [1.0])
    assert relative_distance([zero], [zero]) == 0
    assert relative_distance([one], [zero]) == float("inf")


@pytest.mark.parametrize("ranks", [[4, 3], [4] * 8], ids=["factors", "matrix"])
@pytest.mark.parametrize("off", [1.0, 1e-3, 1e-7, 1e-11])
def test_a_small_distance_keeps_its_digits(ranks: list[int], off: float) -> None:
    generator = np.random.default_rng(3)
    terms = random_factors(generator, ranks, 30, 20)
    total = Product.sum(terms, [1.0] * len(ranks))
    (error,) = random_factors(generator, [2], 30, 20)
    found = total + Product.sum([error], [off])
    expected = off * np.linalg.norm(dense([error], [1.0])) / total.norm()
    assert relative_distance([found], [total]) == pytest.approx(expected, rel=1e-3)


def test_what_cancels_between_clients_is_told_exactly() -> None:
    """The clients' sum is far smaller than each of them."""
    generator = np.random.default_rng(4)
    (large,), (small,) = (random_factors(generator, [2], 30, 20) for _ in range(2))
    exact = Product.sum([large, large, small], [1.0, -1.0, 1e-9])
    half = Product.sum([small], [0.5e-9])
    assert relative_distance([half], [exact]) == pytest.approx(0.5, rel=1e-5)
