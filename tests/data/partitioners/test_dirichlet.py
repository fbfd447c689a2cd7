import numpy as np
import pytest
from datasets import Dataset

from lit_fed.data import DirichletPartitioner

LABELS = np.repeat(np.arange(4), 500)
ROWS = Dataset.from_dict({"kind": [f"kind {label}" for label in LABELS]})


def label_shares(alpha: float) -> np.ndarray:
    """Each client's share of each label, [label, client], over many seeds."""
    parts = [
        part
        for seed in range(30)
        for part in DirichletPartitioner(alpha, "kind", min_samples=0)(ROWS, 5, seed)
    ]
    return np.array([[np.sum(LABELS[part] == label) / 500 for part in parts] for label in range(4)])


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_shares_have_the_moments_of_the_distribution(alpha: float) -> None:
    shares = label_shares(alpha).ravel()
    mean, count = 1 / 5, shares.size
    variance = mean * (1 - mean) / (5 * alpha + 1)
    assert shares.mean() == pytest.approx(mean, abs=1e-9)
    # The standard error of a variance is bounded by that of a share's square, which is below 1.
    assert shares.var() == pytest.approx(variance, rel=0.15, abs=3 / count)


def test_min_samples_is_kept() -> None:
    partitioner = DirichletPartitioner(0.3, "kind", min_samples=40)
    assert min(len(part) for part in partitioner(ROWS, 10, 0)) >= 40


def test_unreachable_min_samples() -> None:
    with pytest.raises(ValueError, match=r"raise `data.partitioner.alpha`"):
        DirichletPartitioner(0.01, "kind", min_samples=190)(ROWS, 10, 0)


def test_bad_settings() -> None:
    with pytest.raises(
        ValueError,
        match=r"`data.partitioner.alpha` is expected to be finite and above 0, but got 0",
    ):
        DirichletPartitioner(0)
    with pytest.raises(
        ValueError, match=r"`data.partitioner.min_samples` is expected to be at least 0, but got -1"
    ):
        DirichletPartitioner(min_samples=-1)
    with pytest.raises(
        ValueError, match=r"`data.partitioner.column` .* got 'label'; its columns are \['kind'\]"
    ):
        DirichletPartitioner()(ROWS, 2, 0)
